use actix_web::http::StatusCode;
use actix_web::{App, test as http};
use serde_json::json;

use super::*;
use crate::config::Defaults;

const VM: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
const OTHER: &str = "11111111-d580-4946-9541-13fa98b4acf4";

macro_rules! service {
    ($dir:expr) => {{
        let store = Store::open($dir.path(), Defaults::default()).unwrap();
        http::init_service(App::new().app_data(web::Data::new(store)).configure(routes)).await
    }};
}

macro_rules! send {
    ($app:expr, $method:ident, $path:expr, $body:expr) => {{
        let request = http::TestRequest::$method().uri(&$path).set_json($body).to_request();
        let answer = http::call_service(&$app, request).await;
        let status = answer.status();
        (status, String::from_utf8_lossy(&http::read_body(answer).await).into_owned())
    }};
}

fn record(hostname: &str) -> serde_json::Value {
    json!({"vm": VM, "spec": {"hostname": hostname}, "macs": ["52:54:00:00:00:01"], "committed": false})
}

#[actix_web::test]
async fn a_seed_lives_from_put_to_delete() {
    let dir = tempfile::tempdir().unwrap();
    let app = service!(dir);
    let seed = format!("/v1/seeds/{VM}");
    let none = json!(null);
    assert_eq!(send!(app, put, seed, record("web1")).0, StatusCode::NO_CONTENT);
    let callers = json!({"macs": ["52:54:00:00:00:02"]});
    assert_eq!(send!(app, put, format!("{seed}/callers"), callers).0, StatusCode::NO_CONTENT);
    assert_eq!(send!(app, post, format!("{seed}/commit"), &none).0, StatusCode::NO_CONTENT);
    let (status, body) = send!(app, get, format!("{seed}/boot"), &none);
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"fetches":[],"total":0}"#));
    let (status, body) = send!(app, get, format!("{seed}/preview"), &none);
    assert_eq!(status, StatusCode::OK);
    assert!(serde_json::from_str::<SeedPreview>(&body).unwrap().meta_data.contains("web1"));
    let iso = http::TestRequest::get().uri(&format!("{seed}/cidata.iso")).to_request();
    let image = http::call_and_read_body(&app, iso).await;
    assert_eq!(&image[0x8001..0x8006], b"CD001");
    assert_eq!(send!(app, delete, seed, &none).0, StatusCode::NO_CONTENT);
    assert_eq!(send!(app, delete, seed, &none).0, StatusCode::NO_CONTENT);
    assert_eq!(send!(app, get, format!("{seed}/boot"), &none).0, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn a_bad_record_is_422_and_names_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let app = service!(dir);
    let (status, body) = send!(app, put, format!("/v1/seeds/{VM}"), record("a b"));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body.contains("spec.hostname") && body.contains("invalid_value"), "{body}");
    let (status, body) = send!(app, put, format!("/v1/seeds/{OTHER}"), record("a"));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body.contains("the body guest"), "{body}");
    let crowd = json!({"macs": vec!["52:54:00:00:00:01"; 65]});
    let (status, body) = send!(app, put, format!("/v1/seeds/{VM}/callers"), crowd);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

#[actix_web::test]
async fn a_missing_seed_is_404() {
    let dir = tempfile::tempdir().unwrap();
    let app = service!(dir);
    for path in ["boot", "preview", "cidata.iso"] {
        let (status, body) = send!(app, get, format!("/v1/seeds/{VM}/{path}"), json!(null));
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
        assert!(body.contains("no_such_vm"), "{body}");
    }
    assert_eq!(
        send!(app, post, format!("/v1/seeds/{VM}/commit"), json!(null)).0,
        StatusCode::NOT_FOUND
    );
}
