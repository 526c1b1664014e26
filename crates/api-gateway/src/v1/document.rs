//! The OpenAPI document: what handlers say of themselves, and what holds for all of them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{
    AdditionalProperties, AllOf, KnownFormat, Object, ObjectBuilder, OneOf, Schema, SchemaFormat,
    SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required};
use utoipa::{IntoParams as _, Modify};
use vmmgr_common::error::Problem;

use super::submit::Wait;

/// Statuses of failures; each is described once.
const FAILURES: [u16; 14] = [400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 502, 503, 504, 507];

/// The document as it is committed and served.
pub(crate) fn text(document: &OpenApi) -> Result<String, serde_json::Error> {
    document.to_pretty_json().map(|text| text + "\n")
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "service", operation_id = "show_openapi",
    security(()), responses((status = 200, body = Object)),
)]
pub(super) async fn openapi() -> Result<HttpResponse, Problem> {
    let text = text(&super::document()).map_err(crate::store::failed)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// What holds for every operation, added once.
pub(super) struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A session's token, or a named one that begins with `vmmgr_`"));
        let bearer = SecurityScheme::Http(bearer.build());
        components.security_schemes.insert("bearer".to_owned(), bearer.into());
        for status in FAILURES {
            components.responses.insert(name_of(status), failure(status).into());
        }
        components.schemas.values_mut().for_each(close);
        let flat: Vec<String> = components.schemas.values().flat_map(flattened).collect();
        for name in flat {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(&name) {
                object.additional_properties = None;
            }
        }
        for (path, item) in &mut document.paths.paths {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, put, post, delete, patch].into_iter().flatten() {
                complete(path, operation);
            }
        }
    }
}

/// A variant that is one key and its content (serde's external tagging) has no other keys.
fn close(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::OneOf(OneOf { items, .. })) = schema else { return };
    for item in items {
        if let RefOr::T(Schema::Object(object)) = item
            && object.properties.len() == 1
            && object.required.len() == 1
        {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
}

/// Names of the schemas that others contain field by field: those have more fields than they, so
/// they cannot say that there are no others.
fn flattened(schema: &RefOr<Schema>) -> Vec<String> {
    let RefOr::T(Schema::AllOf(AllOf { items, .. })) = schema else { return Vec::new() };
    let name = |item: &RefOr<Schema>| match item {
        RefOr::Ref(to) => to.ref_location.rsplit('/').next().map(str::to_owned),
        RefOr::T(_) => None,
    };
    items.iter().filter_map(name).collect()
}

fn reason(status: &str) -> &'static str {
    let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// `NotFound` of 404.
fn name_of(status: u16) -> String {
    reason(&status.to_string()).split(' ').collect()
}

fn failure(status: u16) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description(reason(&status.to_string()))
        .content("application/problem+json", content);
    response.build()
}

fn complete(path: &str, operation: &mut Operation) {
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            answer.description = reason(status).to_owned();
        }
    }
    add_parameters(path, operation);
    add_failures(path, operation);
}

/// True for what answers with an operation.
fn is_work(operation: &Operation) -> bool {
    operation.responses.responses.contains_key("202")
}

fn add_failures(path: &str, operation: &mut Operation) {
    let (is_work, has_body) = (is_work(operation), operation.request_body.is_some());
    let public = operation.security.is_some();
    let proves = path == "/v1/session" || path == "/v1/console/exchange";
    let of_host = path.contains("{host}") || path == "/v1/hosts";
    // In its query.
    let names_host = path == "/v1/events";
    let answers = &mut operation.responses.responses;
    let changes = is_work || !answers.contains_key("200");
    for (status, happens) in [
        (400, true),
        (401, !public || proves),
        (403, !public),
        (404, path.contains('{') || names_host),
        (409, changes || of_host),
        (412, is_work),
        (413, has_body),
        (422, path.contains('{') || has_body || names_host),
        (429, true),
        (500, true),
        (502, of_host),
        (503, true),
        (504, of_host),
        (507, is_work),
    ] {
        if happens {
            let described = Ref::from_response_name(name_of(status));
            answers.entry(status.to_string()).or_insert(described.into());
        }
    }
}

fn add_parameters(path: &str, operation: &mut Operation) {
    let names = path.split('{').skip(1).filter_map(|part| part.split('}').next());
    let tag = operation.tags.iter().flatten().next().map_or("", String::as_str);
    let tag = if path.contains("/nics/") { "interfaces" } else { tag };
    let mut all: Vec<Parameter> = names.map(|name| path_parameter(tag, name)).collect();
    // What the handler's types say of its path is less.
    let given = operation.parameters.take().into_iter().flatten().filter_map(|given| match given {
        RefOr::T(given) => (given.parameter_in != ParameterIn::Path).then_some(given),
        RefOr::Ref(_) => None,
    });
    all.extend(given);
    if is_work(operation) {
        all.extend(Wait::into_params(|| Some(ParameterIn::Query)));
        all.push(header("If-Match", IF_MATCH, Some(TAGS)));
        all.push(header("Idempotency-Key", IDEMPOTENCY_KEY, Some("^[!-~]{1,128}$")));
    }
    if operation.responses.responses.contains_key("304") {
        all.push(header("If-None-Match", IF_NONE_MATCH, None));
    }
    for parameter in &mut all {
        if let Some(RefOr::T(Schema::Object(number))) = &mut parameter.schema {
            limit(number);
        }
    }
    operation.parameters = (!all.is_empty()).then(|| all.into_iter().map(Into::into).collect());
}

/// Says how large a number can be: there is no format for those without a sign.
fn limit(number: &mut Object) {
    let most = match &number.format {
        Some(SchemaFormat::KnownFormat(KnownFormat::Int32)) => u32::MAX as usize,
        Some(SchemaFormat::KnownFormat(KnownFormat::Int64)) => usize::MAX,
        _ => return,
    };
    number.maximum.get_or_insert(most.into());
}

const IF_MATCH: &str = "The `ETag` of the guest as it was read: the change is refused with 412 \
    when it has changed since";
const IF_NONE_MATCH: &str = "The `ETag` of an answer that the caller has";
const IDEMPOTENCY_KEY: &str = "1 to 128 printable characters: the same request with the same key \
    is done once";

/// `*` or entity tags (RFC 9110, 13.1.1).
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#;

fn header(name: &str, description: &str, pattern: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(
            ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(pattern),
        ))
        .build()
}

/// A part of a path. The same name means the same everywhere, but for ids.
fn path_parameter(tag: &str, name: &str) -> Parameter {
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let uuid = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).into();
    let component = |name: &str| -> RefOr<Schema> { Ref::from_schema_name(name).into() };
    let (description, schema) = match (name, tag) {
        ("host", _) => ("Host", component("HostId")),
        ("vm", _) => ("Guest", component("VmId")),
        ("id", "operations") => ("Operation", component("OperationId")),
        ("id", "console") => ("Console session", component("ConsoleSessionId")),
        ("id", "tokens") => ("Token", uuid()),
        ("id", "links") => ("Link", text().into()),
        ("name", _) => ("Name", component("ResourceName")),
        ("arch", _) => ("Architecture", component("Arch")),
        ("target", _) => ("Target of a disk or drive", component("TargetName")),
        ("device", "interfaces") => ("Address of the interface", component("MacAddress")),
        ("device", "devices") => {
            ("Target of a disk or drive, or address of an interface", text().into())
        }
        ("range", _) => ("Name of the range: the address, or `first-last`", text().into()),
        ("address", _) => ("Address", text().into()),
        ("sender", _) => ("Host, or `user:` and an account", text().into()),
        ("guest", _) => ("Guest as libvirt calls it", text().into()),
        _ => ("", text().into()),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
