//! The routes of a service, gathered by path: a known path answers another method with 405 and
//! `Allow` instead of pretending not to exist.

use std::collections::HashMap;

use actix_web::dev::HttpServiceFactory;
use actix_web::{Resource, Route, web};

/// What a service offers; filled like a [`web::ServiceConfig`], registered when it is dropped.
pub struct Routes<'a> {
    config: &'a mut web::ServiceConfig,
    paths: HashMap<String, Vec<Route>>,
    /// The first path that fits is taken, so they stay in their order.
    order: Vec<String>,
}

impl<'a> Routes<'a> {
    /// Nothing yet.
    pub fn new(config: &'a mut web::ServiceConfig) -> Self {
        Self { config, paths: HashMap::new(), order: Vec::new() }
    }

    /// One method of a path.
    pub fn route(&mut self, path: &str, route: Route) -> &mut Self {
        let known = self.paths.entry(path.to_owned()).or_default();
        if known.is_empty() {
            self.order.push(path.to_owned());
        }
        known.push(route);
        self
    }

    /// Anything else that answers requests.
    pub fn service<F: HttpServiceFactory + 'static>(&mut self, factory: F) -> &mut Self {
        self.config.service(factory);
        self
    }
}

impl Drop for Routes<'_> {
    fn drop(&mut self) {
        for path in std::mem::take(&mut self.order) {
            let routes = self.paths.remove(&path).unwrap_or_default();
            self.config.service(routes.into_iter().fold(web::resource(path), Resource::route));
        }
    }
}
