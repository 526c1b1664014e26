//! The fuzzer's seeds, as plain tests.

#[path = "../fuzz/checks.rs"]
mod checks;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("the corpus is part of the sources");
    let files: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
    assert!(files.len() >= 5, "{target} has only {} seeds", files.len());
    files.into_iter().map(|file| std::fs::read(file).expect("a readable seed")).collect()
}

/// Each seed, cut short at every place, and with each byte changed.
fn around(seed: &[u8], check: fn(&[u8])) {
    check(seed);
    for at in 0..seed.len().min(400) {
        check(&seed[..at]);
        for change in [1, 0x80, 0xff] {
            let mut changed = seed.to_vec();
            changed[at] ^= change;
            check(&changed);
        }
    }
}

#[test]
fn frames() {
    seeds("frames").iter().for_each(|seed| around(seed, checks::frames));
}

#[test]
fn rfb() {
    seeds("rfb").iter().for_each(|seed| around(seed, checks::rfb));
}

#[test]
fn tickets() {
    seeds("tickets").iter().for_each(|seed| around(seed, checks::tickets));
}
