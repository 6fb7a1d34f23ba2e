//! Control characters in files of other people: none reaches a terminal or a page as it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_scripts, tiny_folder};
use common::program::{finished, lorhai, Finished};
use lorhai::foreign::is_harmful;
use std::path::Path;

/// Clears the screen, sets a window's title, reverses what follows; C1 and DEL too.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}\u{2066}\u{9b}3D\u{7f}";

/// Line breaks and tabs are what a table and a text need.
fn harmful(text: &str) -> Vec<char> {
    text.chars().filter(|&character| is_harmful(character) && !matches!(character, '\n' | '\t')).collect()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run(folder: &Path, script: &str, arguments: &[&str]) -> Finished {
    write(folder, "case.rhai", script);
    finished(lorhai(folder).args(["run"]).args(arguments).arg("case.rhai"))
}

/// The files that hold hostile texts.
fn folder() -> tempfile::TempDir {
    let folder = folder_with_scripts();
    let root = folder.path();
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let name = json(&format!("column{HOSTILE}"));
    write(root, "rows.jsonl", &format!("{{{name}: {}, \"n\": 1}}\n", json(HOSTILE)));
    write(root, "rows.csv", &format!("column{HOSTILE},n\nvalue{HOSTILE},1\n"));
    let config = std::fs::read_to_string(tiny_folder().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["model_type"] = HOSTILE.into();
    write(root, "model/config.json", &config.to_string());
    write(root, "adapter/adapter_config.json", &format!("{{\"peft_type\": {}, \"r\": 4}}", json(HOSTILE)));
    write(root, "adapter/adapter_model.safetensors", "x");
    write(root, "broken.json", &format!("{{\"a\": \"{HOSTILE}"));
    write(root, &format!("module{HOSTILE}.rhai"), "throw \"x\";");
    folder
}

/// Each prints or fails with a text of the files, or of the script as a stranger wrote it.
const SCRIPTS: &[&str] = &[
    r#"print(load_dataset("rows.jsonl").describe());"#,
    r#"print(load_dataset("rows.csv").describe());"#,
    r#"print(load_dataset("rows.jsonl").preview(3)); print(load_dataset("rows.csv").preview(3));"#,
    r#"load_dataset("rows.jsonl").tokenize(load_model("scripts/tiny"), #{});"#,
    r#"load_dataset("rows.csv").select_columns(["nothing"]);"#,
    r#"load_dataset("rows.csv").map(|row| row.nothing);"#,
    r#"load_dataset("rows.csv").split(#{ test: 0.5, stratify_by_column: "nothing" });"#,
    r#"load_model("model");"#,
    r#"load_model("HOSTILE");"#,
    r#"load_model("scripts/tiny").load_adapter("adapter");"#,
    r#"load_model("scripts/tiny").set_adapter("HOSTILE");"#,
    r#"let m = load_model("scripts/tiny"); m.add_lora(#{ name: "aHOSTILE" }); print(compare(m, ["aHOSTILE"], ["the HOSTILE"]).table());"#,
    r#"let m = load_model("scripts/tiny"); m.add_lora(#{ "HOSTILE": 1 });"#,
    r#"let m = load_model("scripts/tiny"); m.add_lora(#{ target_modules: ["HOSTILE"] });"#,
    r#"let m = load_model("scripts/tiny"); m.chat_template = "{{ raise_exception('HOSTILE') }}"; m.chat("hello");"#,
    r#"let m = load_model("scripts/tiny"); m.chat_template = "{{ messages|HOSTILE }}";"#,
    r#"let m = load_model("scripts/tiny"); try { m.set_adapter("HOSTILE"); } catch (e) { print(e.message); print(e.hint); }"#,
    r#"read_json("broken.json");"#,
    r#"read_text("noneHOSTILE");"#,
    r#"import "moduleHOSTILE" as m;"#,
    r#"throw "HOSTILE";"#,
    r#"HOSTILE"#,
    r#"let x = "HOSTILE"; x.nothing();"#,
    r#"args(#{ a: 1 }); sweep(1, 2, #{ "HOSTILE": 1 });"#,
];

#[test]
fn no_control_character_of_a_file_is_printed() {
    let folder = folder();
    for script in SCRIPTS {
        let script = script.replace("HOSTILE", HOSTILE);
        for arguments in [&[][..], &["--json"]] {
            let finished = run(folder.path(), &script, arguments);
            let shown = script.escape_debug();
            assert_eq!(harmful(&finished.output), [], "{shown}:\n{}", finished.output.escape_debug());
            assert_eq!(harmful(&finished.errors), [], "{shown}:\n{}", finished.errors.escape_debug());
            // It came to something: an output, or an error.
            assert!(!finished.output.is_empty() || finished.code == Some(1), "{shown}: {:?}", finished.code);
        }
    }
}

#[test]
fn no_control_character_is_on_a_page_or_in_a_table() {
    let folder = folder_with_scripts();
    let root = folder.path();
    // A model in a folder with such a name, and rows with such texts.
    let model = format!("tiny{HOSTILE}");
    std::os::unix::fs::symlink(tiny_folder(), root.join(&model)).unwrap();
    let script = r#"
        let m = load_model("MODEL");
        m.add_lora(#{ name: "aHOSTILE", r: 2 });
        compare(m, ["base", "aHOSTILE"], ["the HOSTILE"], #{ references: ["HOSTILE"], max_new_tokens: 4 }).save("before_after.html");
        m.delete_adapter("aHOSTILE");
        let data = dataset([#{ prompt: "a", completion: " bHOSTILE" }, #{ prompt: "b", completion: " c d" }])
            .tokenize(m, #{}).split(#{ test: 1 });
        let result = sweep(m, data, #{ grid: #{ target_modules: [".*q_proj", ".*SHORT|.*v_proj"] },
            train: #{ steps: 2, batch: 1, eval_every: 1 }, out: "runs/x" });
        print(result.table());
        print(result.best("eval_loss").summary);"#;
    let script = script.replace("MODEL", &model).replace("HOSTILE", HOSTILE).replace("SHORT", "\u{1b}\u{202e}\u{9b}");
    let finished = run(root, &script, &[]);
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
    assert_eq!(harmful(&finished.output), [], "{}", finished.output.escape_debug());
    assert_eq!(harmful(&finished.errors), [], "{}", finished.errors.escape_debug());
    let mut pages =
        vec![root.join("before_after.html"), root.join("runs/x/report.html"), root.join("runs/x/results.csv")];
    pages
        .extend(std::fs::read_dir(root.join("runs/x/charts")).into_iter().flatten().map(|entry| entry.unwrap().path()));
    for page in pages {
        let Ok(text) = String::from_utf8(std::fs::read(&page).unwrap()) else { continue };
        assert_eq!(harmful(&text), [], "{}", page.display());
        println!("{}: {} bytes", page.display(), text.len());
    }
}
