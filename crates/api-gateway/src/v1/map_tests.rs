//! `docs/seed-map.md` against what there is.

use super::tests::routes;

/// What the page of the described system's counterparts names in its middle column.
fn mapped() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/seed-map.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn the_map_of_the_described_system_names_routes_and_files_that_exist() {
    let routes = routes();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = mapped();
    assert!(named.len() > 60, "{named:?}");
    for name in named {
        if name.starts_with('/') {
            assert!(routes.iter().any(|(_, path)| path == name), "no route {name}");
        } else if !name.starts_with("vmmctl ") {
            assert!(root.join(name).exists(), "no file {name}");
        }
    }
    for (_, path) in routes.iter().filter(|(_, path)| !path.starts_with("/v1/")) {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let kept =
            [path, bare].iter().any(|path| mapped().contains(path)) || path == "/user/{link:.*}";
        assert!(kept, "{path} is not on the page");
    }
}
