//! Which role may call which routes.

use std::sync::Arc;

use actix_web::{guard, web};

use super::Peer;
use crate::mtls::Role;

type Routes = dyn Fn(&mut web::ServiceConfig) + Send + Sync;

/// Routes and the roles that find them; for every other role they do not exist (404).
///
/// The check is part of the routing itself, so that no spelling of a path gets around it. A role
/// has one door: it finds the routes of the first door that it may use.
#[derive(Clone)]
pub struct Door {
    roles: &'static [Role],
    routes: Arc<Routes>,
}

impl Door {
    /// Routes for `roles`.
    pub fn new(
        roles: &'static [Role],
        routes: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        Self { roles, routes: Arc::new(routes) }
    }

    pub(super) fn open(&self, app: &mut web::ServiceConfig) {
        let roles = self.roles;
        let fits = move |context: &guard::GuardContext<'_>| {
            context.req_data().get::<Peer>().is_some_and(|peer| roles.contains(&peer.0.role))
        };
        app.service(
            web::scope("").guard(guard::fn_guard(fits)).configure(|app| (self.routes)(app)),
        );
    }
}

/// All roles that have a door.
pub(super) fn roles(doors: &[Door]) -> Arc<[Role]> {
    doors.iter().flat_map(|door| door.roles.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtls::Identity;
    use actix_web::{App, HttpMessage as _, test as http};

    #[actix_web::test]
    async fn each_role_finds_its_own_routes_and_no_others() {
        let answer = |text: &'static str| web::get().to(move || async move { text });
        let doors = [
            Door::new(&[Role::Nginx, Role::Operator], move |app| {
                app.route("/v1/thing", answer("thing"));
            }),
            Door::new(&[Role::VncProxy], move |app| {
                app.route("/internal/thing", answer("inside"));
            }),
        ];
        assert_eq!(*roles(&doors), [Role::Nginx, Role::Operator, Role::VncProxy]);
        let app = App::new().configure(|app| doors.iter().for_each(|door| door.open(app)));
        let app = http::init_service(app).await;
        for (role, path, status) in [
            (Role::Nginx, "/v1/thing", 200),
            (Role::Operator, "/v1/thing", 200),
            (Role::VncProxy, "/internal/thing", 200),
            (Role::VncProxy, "/v1/thing", 404),
            (Role::Nginx, "/internal/thing", 404),
            (Role::Nginx, "/%69nternal/thing", 404),
            (Role::Nginx, "/internal%2Fthing", 404),
            (Role::Nginx, "//internal/thing", 404),
            (Role::Nginx, "/v1/../internal/thing", 404),
            (Role::Host, "/v1/thing", 404),
        ] {
            let request = http::TestRequest::get().uri(path).to_request();
            let identity = Identity { role, instance: "x".to_owned() };
            request.extensions_mut().insert(Peer(identity));
            let got = http::call_service(&app, request).await.status();
            assert_eq!(got, status, "{role:?} {path}");
        }
        let nobody = http::TestRequest::get().uri("/v1/thing").to_request();
        assert_eq!(http::call_service(&app, nobody).await.status(), 404);
    }
}
