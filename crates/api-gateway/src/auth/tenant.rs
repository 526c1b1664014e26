//! The extractor of routes that a link opens.

use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::link::{LinkToken, LinkVerb};
use super::{Identity, LINK, Role};
use crate::app::App;
use crate::query::Arguments;
use crate::watch;

/// What a route of a link does.
pub(crate) trait LinkRoute: 'static {
    /// The verb that the link must allow.
    const VERB: LinkVerb;
    /// Methods that are taken.
    const METHODS: &'static [Method];
    /// Methods that only look: they take no use of the link.
    const LOOKS: &'static [Method];
    /// Arguments beside the link's own.
    const ARGUMENTS: &'static [&'static str];
}

macro_rules! link_routes {
    ($($(#[$doc:meta])* $name:ident($verb:ident): $methods:expr, $looks:expr, $arguments:expr;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;
            impl LinkRoute for $name {
                const VERB: LinkVerb = LinkVerb::$verb;
                const METHODS: &'static [Method] = &$methods;
                const LOOKS: &'static [Method] = &$looks;
                const ARGUMENTS: &'static [&'static str] = &$arguments;
            }
        )*
    };
}

link_routes! {
    /// `/user/vm/list/…`.
    List(List): [Method::GET], [Method::GET], ["k", "e"];
    /// `/user/vm/getiso/…`.
    Getiso(Getiso): [Method::GET], [Method::GET], ["k", "e"];
    /// `/user/vm/start/…`.
    Start(Start): [Method::GET, Method::POST], [], ["k", "e"];
    /// `/user/vm/reset/…`.
    Reset(Reset): [Method::GET, Method::POST], [], ["k", "e"];
    /// `/user/vm/stop/…`.
    Stop(Stop): [Method::GET, Method::POST], [], ["k", "e", "force"];
    /// `/user/vm/display/…`.
    Display(Display): [Method::GET], [], ["k", "e"];
    /// `/user/vm/console/…`.
    Console(Console): [Method::GET], [], ["k", "e"];
    /// `/user/vm/cdrom/…`.
    Cdrom(Cdrom): [Method::POST], [], ["k", "e", "dev"];
    /// `/user/vm/snapshot/…`: looks with GET, takes one with POST.
    Snapshot(Snapshot): [Method::GET, Method::POST], [Method::GET], ["k", "e", "name"];
    /// `/user/vm/revert_snapshot/…`.
    RevertSnapshot(Snapshot): [Method::GET, Method::POST], [], ["k", "e", "name"];
    /// `/user/vm/delete_snapshot/…`.
    DeleteSnapshot(Snapshot): [Method::GET, Method::POST], [], ["k", "e", "name"];
}

/// The holder of a link that allows what `R` does.
pub(crate) struct Tenant<R> {
    /// Host of its guest.
    pub(crate) host: HostId,
    /// Its guest.
    pub(crate) vm: VmId,
    /// The link, in the place of an account.
    pub(crate) identity: Identity,
    /// Arguments beside the link.
    pub(crate) arguments: Arguments,
    route: PhantomData<R>,
}

async fn admit<R: LinkRoute>(request: HttpRequest) -> Result<Tenant<R>, Problem> {
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| Problem::new(ErrorCode::Internal, "the application is not set up"))?;
    // The path as it was sent: nothing in a link needs an escape, so one with escapes is none.
    let tail = request.uri().path().splitn(5, '/').nth(4).unwrap_or_default();
    let (token, arguments) = LinkToken::parse(tail, request.query_string())?;
    let link = app.link(&token).await?;
    let looks = R::LOOKS.contains(request.method());
    let changes = R::METHODS.contains(&Method::POST) && !looks;
    watch::is_of(&request, format!("{LINK}{}", link.id), changes);
    app.limits.account(&format!("{LINK}{}", link.id))?;
    if !R::METHODS.contains(request.method()) {
        let offered: Vec<&str> = R::METHODS.iter().map(Method::as_str).collect();
        return Err(Problem::new(
            ErrorCode::MethodNotAllowed,
            format!("this is done with {}", offered.join(" or ")),
        ));
    }
    if !link.verbs.contains(&R::VERB) {
        return Err(Problem::new(ErrorCode::Forbidden, "this link does not allow that"));
    }
    arguments.only(R::ARGUMENTS)?;
    if !looks {
        app.use_link(&link).await?;
    }
    tracing::info!(link.id = link.id, vm.id = %link.vm, host.id = %link.host, verb = ?R::VERB, "a link is used");
    let user = format!("{LINK}{}", link.id);
    // A link is no account: the role is the least, and nothing asks for it on these routes.
    let (role, generation, until) = (Role::Viewer, 0, token.expires);
    let (name, refreshes) = (app.link_name(&token), None);
    let identity = Identity { user, role, token: name, generation, until, refreshes };
    Ok(Tenant { host: token.host, vm: token.vm, identity, arguments, route: PhantomData })
}

impl<R: LinkRoute> FromRequest for Tenant<R> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(admit(request.clone()))
    }
}
