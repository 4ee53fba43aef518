//! The table of docs/shim.md names tests that are there.

use std::path::Path;

#[test]
fn every_test_that_the_table_of_flaws_names_is_there() {
    let shim = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(shim.join("../docs/shim.md")).unwrap();
    let names = table.split('`').filter(|word| word.contains("::"));
    let names = names.filter(|word| *word != "FILE::NAME");
    let mut count = 0;
    for name in names {
        let (file, function) = name.split_once("::").unwrap();
        let file = match file {
            "machine" => "tests/machine.rs".to_owned(),
            file if file.starts_with("src/") => format!("{file}.rs"),
            file => format!("tests/shim/{file}.rs"),
        };
        let source = std::fs::read_to_string(shim.join(&file)).unwrap();
        let test = format!("fn {function}()");
        assert!(source.contains(&test), "{file}: {function}");
        count += 1;
    }
    assert!(count > 40, "{count}");
}
