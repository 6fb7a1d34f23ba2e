//! What trainings and sweeps of scripts do, where no single file of the library decides it.

mod training {
    use crate::script::engine::session::printed_by;

    const ROWS: &str = r#"
        let model = load_model("scripts/tiny", #{ device: "cpu" });
        model.add_lora(#{ r: 2 });
        let rows = [];
        for length in 1..17 { let text = "the small fox"; for i in 0..length { text += " sees"; } rows.push(#{ text: text }); }
        let data = dataset(rows).tokenize(model, #{}).split(#{ test: 4 });"#;

    /// The steps after which a run of two epochs of three steps is evaluated.
    fn evaluated_at(options: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        printed_by(&format!("{ROWS} train(model, data, #{{ epochs: 2, batch: 4, out: {out:?}, {options} }});"))
            .unwrap();
        let log = crate::train::metrics::read_metrics(&out.join("metrics.jsonl")).unwrap();
        let steps = log.iter().filter(|row| row.eval_loss.is_some()).map(|row| row.step.to_string());
        steps.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn runs_are_evaluated_by_steps_fractions_and_epochs() {
        assert_eq!(evaluated_at("eval_strategy: \"epoch\""), "3 6");
        assert_eq!(evaluated_at("eval_steps: 0.3"), "2 4 6");
        assert_eq!(evaluated_at("evals_per_epoch: 3"), "1 2 3 4 5 6");
        assert_eq!(evaluated_at("eval_strategy: \"steps\", log_every: 4"), "4 6");
        assert_eq!(evaluated_at("eval_strategy: \"no\""), "6");
        assert_eq!(evaluated_at("eval_strategy: \"epoch\", keep_best: true, group_by_length: true"), "3 6");
    }

    #[test]
    fn the_most_memory_held_is_in_the_results() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        let printed = printed_by(&format!(
            r#"{ROWS}
            print(train(model, data, #{{ steps: 2 }}).peak_memory);
            model.delete_adapter("default");
            let result = sweep(model, data, #{{ grid: #{{ rank: [2, 4] }}, train: #{{ steps: 2 }}, out: {out:?}, charts: false }});
            for row in result.rows {{ print(row.peak_memory); }}"#
        ));
        let printed = printed.unwrap();
        let numbers: Vec<&str> = printed.split_whitespace().collect();
        if numbers == ["()"; 3] || numbers.is_empty() {
            println!("not measured: this system does not say what a process holds");
            return;
        }
        // The weights alone take 2.9 MB, libtorch far more.
        let all: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        assert!(all.len() == 3 && all.iter().all(|bytes| (10_000_000..100_000_000_000).contains(bytes)), "{printed}");
    }

    #[test]
    fn held_out_rows_without_a_label_are_refused_before_the_first_step() {
        let folder = tempfile::tempdir().unwrap();
        let begin = r#"
            let model = load_model("scripts/tiny");
            let rows = dataset([#{ text: "the small fox" }]).tokenize(model, #{});
            let cut = dataset([#{ prompt: "the small fox sees a bridge", completion: " yes" }])
                .tokenize(model, #{ max_length: 4, audit: false });"#;
        let ends = [
            r#"model.add_lora(#{ r: 2 }); train(model, splits(rows, cut), #{ steps: 2, out: OUT });"#,
            r#"sweep(model, splits(rows, cut), #{ grid: #{ rank: [2, 4] }, train: #{ steps: 2 }, out: OUT });"#,
        ];
        for (number, end) in ends.into_iter().enumerate() {
            let out = folder.path().join(number.to_string());
            let script = format!("{begin}{}", end.replace("OUT", &format!("{out:?}")));
            let error = printed_by(&script).unwrap_err();
            assert!(error.contains("no label to measure") && error.contains("max_length"), "{error}");
            assert!(!out.exists(), "{end}");
        }
    }
}

mod sweeps {
    use crate::script::engine::session::printed_by;
    use std::path::Path;

    /// A sweep of one trial over `base` into `out`, as text of a script.
    fn sweep(base: &str, out: &Path) -> String {
        format!(
            r#"let base = {base};
            let rows = [#{{ prompt: "a", completion: " b" }}, #{{ prompt: "c", completion: " d" }}];
            let data = dataset(rows).tokenize(base, #{{}}).split(#{{ test: 1 }});
            let result = sweep(base, data, #{{ grid: #{{ rank: [2] }}, train: #{{ steps: 1 }}, charts: false,
                                               out: "{}" }});
            print(`${{result.trained}} ${{result.rows[0].eval_loss}}`);"#,
            out.display()
        )
    }

    #[test]
    fn a_trial_over_other_weights_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        let bases = [
            r#"load_model("scripts/tiny", #{ dtype: "f32" })"#,
            r#"random_model("scripts/tiny", #{ seed: 1 })"#,
            r#"random_model("scripts/tiny", #{ seed: 2 })"#,
        ];
        let mut printed = Vec::new();
        for base in bases {
            let script = sweep(base, &out);
            let (first, again) = (printed_by(&script).unwrap(), printed_by(&script).unwrap());
            assert!(first.starts_with("1 "), "{base} trained {first}");
            assert_eq!(again, first.replacen('1', "0", 1), "{base} once more");
            printed.push(first);
        }
        printed.dedup();
        assert_eq!(printed.len(), 3, "{printed:?}");
    }

    #[test]
    fn the_settings_of_a_loaded_model_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        printed_by(&sweep(r#"load_model("scripts/tiny")"#, &out)).unwrap();
        let settings = crate::files::read_json(&out.join("rank-2/config.json")).unwrap();
        let text = settings.to_string();
        assert!(text.contains("fingerprint") && !text.contains("random_seed"), "{text}");
    }

    #[test]
    fn a_base_that_is_trained_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (out, saved) = (folder.path().join("sweep"), folder.path().join("saved"));
        let trained = sweep(r#"load_model("scripts/tiny", #{ dtype: "f32" }); base.train_all()"#, &out);
        let error = printed_by(&trained).unwrap_err();
        assert!(error.contains("expected a frozen base") && error.contains("model.save(folder)"), "{error}");
        assert!(!out.exists());
        let kept = format!(
            r#"{{ let m = random_model("scripts/tiny", #{{}}); m.train_all(); m.save("{0}"); load_model("{0}") }}"#,
            saved.display()
        );
        assert!(printed_by(&sweep(&kept, &out)).unwrap().starts_with("1 "));
    }
}
