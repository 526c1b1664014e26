//! Schemas of what is written by hand, so that they do not follow from the types.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::disk::DiskSize;
use crate::error::{ErrorCode, Problem};

impl PartialSchema for DiskSize {
    fn schema() -> RefOr<Schema> {
        let gibibytes = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .description(Some("GiB"))
            .minimum(Some(1))
            .maximum(Some(64 << 10));
        let text = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("With a unit; GiB without one"))
            .pattern(Some("^[1-9][0-9]{0,7}([Mm]|MB|MiB|[Gg]|GB|GiB|[Tt]|TB|TiB)?$"));
        OneOfBuilder::new()
            .description(Some(
                "A virtual disk size, 1 MiB to 64 TiB. Units are binary. Answers have it as `<n>M`.",
            ))
            .item(gibibytes)
            .item(text)
            .examples(["10G"])
            .into()
    }
}

impl ToSchema for DiskSize {
    fn name() -> Cow<'static, str> {
        "DiskSize".into()
    }
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("Stable machine-readable reason of a failure"))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for ErrorCode {
    fn name() -> Cow<'static, str> {
        "ErrorCode".into()
    }
}

/// A failure, the same everywhere (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `Problem` writes")]
struct ProblemBody {
    /// `urn:vmmgr:error:` and the code.
    r#type: String,
    /// One line for people; the same for every occurrence of the code.
    title: String,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable code.
    code: ErrorCode,
    /// What failed, on which host and guest.
    detail: String,
    /// What the caller can do next.
    #[schema(value_type = String, required = false)]
    hint: Option<String>,
    /// The id under which the services' logs tell more.
    #[schema(value_type = String, required = false)]
    request_id: Option<String>,
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemBody::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ProblemBody::schemas(schemas);
    }
}
