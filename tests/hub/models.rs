//! Models by name: fetching, the cache, and every way in which the hub can fail.

use crate::fake::{FakeHub, COMMIT};
use crate::server::{Reply, Server};
use lorhai::hub::weights::{save, Weights};
use lorhai::hub::{resolve_model, FetchObserver, Hub};
use lorhai::{Error, Kind};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tch::Tensor;

const NAME: &str = "owner/name";

fn weights_of(name: &str, values: &[f32]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    save(&path, &[(name.into(), Tensor::from_slice(values))], &[]).unwrap();
    fs::read(path).unwrap()
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let values: Vec<f32> = (0..20_000).map(|i| i as f32).collect();
    vec![
        ("README.md", b"not wanted".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"model\":{}}".to_vec()),
        ("tokenizer_config.json", b"{ }".to_vec()),
        ("chat_template.jinja", b"{{ messages }}".to_vec()),
        ("model.safetensors", weights_of("w", &values)),
        ("pytorch_model.bin", b"not wanted".to_vec()),
        ("onnx/model.safetensors", b"not wanted".to_vec()),
    ]
}

struct Case {
    fake: FakeHub,
    cache: tempfile::TempDir,
}

impl Case {
    fn new(files: &[(&str, Vec<u8>)]) -> Case {
        Case { fake: FakeHub::start("models/owner/name", files), cache: tempfile::tempdir().unwrap() }
    }
    fn hub(&self) -> Hub {
        self.fake.settings(self.cache.path())
    }
    fn resolve(&self) -> lorhai::Result<lorhai::hub::ModelFolder> {
        resolve_model(NAME, &self.hub(), &mut ())
    }
    fn repo(&self) -> std::path::PathBuf {
        self.cache.path().join("models--owner--name")
    }
    /// The lengths of incomplete blobs.
    fn parts(&self) -> Vec<u64> {
        let blobs = fs::read_dir(self.repo().join("blobs")).into_iter().flatten().flatten();
        let parts = blobs.filter(|entry| entry.file_name().to_string_lossy().ends_with(".incomplete"));
        parts.map(|entry| entry.metadata().unwrap().len()).collect()
    }
    fn fails(&self, hub: &Hub, name: &str) -> Error {
        let error = resolve_model(name, hub, &mut ()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hf_canary"), "{error}");
        assert!(!error.to_string().contains("signature"), "{error}");
        error
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_into_the_cache_and_then_used_from_there() {
    let case = Case::new(&files());
    let model = case.resolve().unwrap();
    assert_eq!(model.commit.as_deref(), Some(COMMIT));
    assert_eq!(model.path, case.repo().join("snapshots").join(COMMIT));
    let wanted = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&model.path), wanted);
    assert_eq!(fs::read_to_string(case.repo().join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(model.path.join("model.safetensors")).unwrap();
    assert!(link.starts_with("../../blobs"), "{}", link.display());
    assert_eq!(Weights::open(&model.path).unwrap().info("w").unwrap().shape, [20_000]);
    assert!(case.fake.requests() > 0);

    case.resolve().unwrap();
    assert_eq!(case.fake.requests(), 0, "the second time needs no network");
    let offline = Hub { offline: true, ..case.hub() };
    assert_eq!(resolve_model(NAME, &offline, &mut ()).unwrap().path, model.path);
    assert_eq!(resolve_model(&format!("{NAME}@{COMMIT}"), &offline, &mut ()).unwrap().path, model.path);
    assert_eq!(case.fake.requests(), 0);
}

#[test]
fn the_token_stays_with_the_hub() {
    let case = Case::new(&files());
    case.resolve().unwrap();
    let hub = case.fake.hub.take_requests();
    assert!(hub.iter().all(|request| request.header("authorization") == Some("Bearer hf_canary")));
    let content = case.fake.content.take_requests();
    assert!(!content.is_empty());
    for request in content {
        assert!(!format!("{request:?}").contains("hf_canary"), "{request:?}");
    }
}

#[test]
fn a_redirected_listing_on_another_host_does_not_get_the_token() {
    let case = Case::new(&files());
    let away = format!("http://localhost:{}/api/elsewhere", case.fake.content.port);
    case.fake.fault(|faults| {
        faults.hub.insert("/api/models/".into(), Reply::new(302).header("Location", away));
    });
    case.fails(&case.hub(), NAME);
    let content = case.fake.content.take_requests();
    assert_eq!(content.len(), 1);
    assert_eq!(content[0].header("authorization"), None);
}

#[test]
fn a_renamed_repository_is_followed() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.renamed = Some(("old/title".into(), NAME.into())));
    let model = resolve_model("old/title", &case.hub(), &mut ()).unwrap();
    assert!(model.path.starts_with(case.cache.path().join("models--old--title")));
    assert!(model.path.join("model.safetensors").is_file());
}

#[test]
fn more_bytes_than_declared_are_neither_kept_nor_fetched_again() {
    let mut files = files();
    // Larger than what a connection has on its way.
    files.iter_mut().find(|(name, _)| *name == "model.safetensors").unwrap().1 = vec![0; 64 << 20];
    let case = Case::new(&files);
    case.fake.fault(|faults| faults.declared = Some(5));
    let error = case.fails(&case.hub(), NAME);
    assert!(
        error.message.contains("`model.safetensors` of `owner/name`: the server sends more than the 5 bytes"),
        "{error}"
    );
    assert_eq!(case.fake.content.take_requests().len(), 1);
    assert!(case.parts().iter().all(|&length| length == 0), "{:?}", case.parts());
}

#[test]
fn shards_are_fetched_as_their_index_names_them() {
    let index = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let case = Case::new(&[
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{} ".to_vec()),
        ("model.safetensors.index.json", index.into()),
        ("model-1.safetensors", weights_of("a", &[1.0])),
        ("model-2.safetensors", weights_of("b", &[2.0])),
        ("model-3.safetensors", weights_of("c", &[3.0])),
    ]);
    let model = case.resolve().unwrap();
    assert!(!model.path.join("model-3.safetensors").exists());
    assert_eq!(Weights::open(&model.path).unwrap().len(), 2);
    case.fake.requests();
    case.resolve().unwrap();
    assert_eq!(case.fake.requests(), 0);
    // If one shard is missing, only that shard is fetched again.
    fs::remove_file(model.path.join("model-2.safetensors")).unwrap();
    case.resolve().unwrap();
    assert_eq!(Weights::open(&model.path).unwrap().len(), 2);
}

#[test]
fn an_adapter_repository_is_fetched() {
    let case =
        Case::new(&[("adapter_config.json", b"{}".to_vec()), ("adapter_model.safetensors", weights_of("a", &[1.0]))]);
    assert_eq!(names(&case.resolve().unwrap().path), ["adapter_config.json", "adapter_model.safetensors"]);
}

/// Records the notifications of a fetch.
#[derive(Default)]
struct Diary {
    begun: Vec<(String, u64, Option<u64>)>,
    bytes: u64,
    ended: usize,
    notes: Vec<String>,
}

impl FetchObserver for Diary {
    fn begin(&mut self, file: &str, done: u64, size: Option<u64>) {
        self.begun.push((file.into(), done, size));
    }
    fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
    fn end(&mut self) {
        self.ended += 1;
    }
    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

/// Refuses files of more than a thousand bytes, as a rehearsal refuses large files.
struct Frugal;

impl FetchObserver for Frugal {
    fn permit(&mut self, what: &str, size: Option<u64>) -> lorhai::Result<()> {
        match size {
            Some(size) if size <= 1000 => Ok(()),
            _ => Err(Error::input(format!("{what}: too large"))),
        }
    }
}

#[test]
fn a_file_that_the_observer_refuses_is_used_only_from_the_cache() {
    let case = Case::new(&files());
    let refused = resolve_model(NAME, &case.hub(), &mut Frugal).err().unwrap().to_string();
    assert!(refused.starts_with("`model.safetensors` of the model `owner/name`: too large"), "{refused}");
    assert_eq!((case.fake.content.take_requests().len(), case.parts().len()), (0, 0));
    case.resolve().unwrap();
    assert_eq!(names(&resolve_model(NAME, &case.hub(), &mut Frugal).unwrap().path).len(), 5);
}

#[test]
fn an_interrupted_download_resumes_where_it_stopped() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.cuts = vec![1000, 500]);
    let mut diary = Diary::default();
    let model = resolve_model(NAME, &case.hub(), &mut diary).unwrap();
    let ranges: Vec<_> = case.fake.content.take_requests().iter().map(|request| request.range_start()).collect();
    assert_eq!(ranges, [None, Some(1000), Some(1500)]);
    assert_eq!(Weights::open(&model.path).unwrap().len(), 1);
    assert_eq!(case.parts(), Vec::<u64>::new());
    let size = files().iter().find(|(name, _)| *name == "model.safetensors").unwrap().1.len() as u64;
    let of_weights: Vec<_> = diary.begun.iter().filter(|(file, ..)| file == "model.safetensors").collect();
    assert_eq!(of_weights.len(), 3);
    assert_eq!((of_weights[2].1, of_weights[2].2), (1500, Some(size)));
    assert_eq!(diary.ended, 5);
    assert_eq!(diary.notes.len(), 2);
    assert!(diary.bytes >= size);
}

#[test]
fn the_part_of_a_killed_run_is_resumed_by_the_next_run() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.cuts = vec![1000, 0, 0, 0]);
    let error = case.fails(&Hub { retries: 2, ..case.hub() }, NAME).to_string();
    assert!(error.contains("was interrupted after 1000 bytes") && error.contains("run again"), "{error}");
    assert_eq!(case.parts(), [1000]);
    assert!(!case.repo().join("refs/main").exists(), "an unfinished model does not resolve offline");
    case.fake.fault(|faults| faults.cuts.clear());
    case.fake.content.take_requests();
    case.resolve().unwrap();
    assert_eq!(case.fake.content.take_requests()[0].range_start(), Some(1000));
    assert_eq!(case.parts(), Vec::<u64>::new());
}

#[test]
fn a_server_without_ranges_starts_over() {
    let case = Case::new(&files());
    case.fake.fault(|faults| (faults.cuts, faults.no_ranges) = (vec![1000], true));
    assert_eq!(Weights::open(&case.resolve().unwrap().path).unwrap().len(), 1);
}

#[test]
fn a_corrupt_part_is_detected_by_its_hash() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.cuts = vec![1000, 0, 0, 0]);
    case.fails(&Hub { retries: 2, ..case.hub() }, NAME);
    let part = fs::read_dir(case.repo().join("blobs"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".incomplete"))
        .unwrap();
    fs::write(part.path(), vec![0x55; 1000]).unwrap();
    case.fake.fault(|faults| faults.cuts.clear());
    let mut diary = Diary::default();
    let model = resolve_model(NAME, &case.hub(), &mut diary).unwrap();
    assert!(diary.notes.iter().any(|note| note.contains("SHA-256")), "{:?}", diary.notes);
    assert_eq!(Weights::open(&model.path).unwrap().len(), 1);
}

#[test]
fn content_that_never_matches_its_hash_is_refused() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.corrupt = true);
    let error = case.fails(&Hub { retries: 1, ..case.hub() }, NAME).to_string();
    assert!(error.contains("SHA-256"), "{error}");
    assert!(!case.repo().join("snapshots").join(COMMIT).join("model.safetensors").exists());
}

#[test]
fn a_request_to_a_busy_server_is_repeated() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.statuses = vec![503, 429, 500]);
    case.resolve().unwrap();
    case.fake.fault(|faults| faults.statuses = vec![503; 10]);
    fs::remove_dir_all(case.repo()).unwrap();
    let error = case.fails(&Hub { retries: 1, ..case.hub() }, NAME).to_string();
    assert!(error.contains("the server responds with status 503"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let coded = |status: u16, code: &str| Reply::new(status).header("X-Error-Code", code);
    let cases = [
        (coded(401, "RepoNotFound"), "private or gated (401)", "check the spelling"),
        (coded(401, "GatedRepo"), "is gated", "accept its licence at"),
        (coded(403, "GatedRepo"), "is gated", "accept its licence at"),
        (coded(404, "RepoNotFound"), "does not exist", "check the spelling"),
        (coded(404, "RevisionNotFound"), "no such revision", "branch, tag or commit"),
        (Reply::new(429), "refuses more requests", "wait a minute"),
        (Reply::new(500), "failed (500)", "later"),
        (Reply::new(418), "status 418", ""),
        (Reply::new(200).body("<html>"), "no list of files", "HF_ENDPOINT"),
        (Reply::new(200).body(r#"{"sha":"../../etc","siblings":[]}"#), "an invalid commit hash", "HF_ENDPOINT"),
    ];
    for (reply, message, hint) in cases {
        let case = Case::new(&files());
        case.fake.fault(|faults| {
            faults.hub.insert("/api/models/".into(), reply.clone());
        });
        let error = case.fails(&case.hub(), NAME);
        assert_eq!(error.kind, Kind::Hub);
        let text = error.to_string();
        assert!(text.contains(message) && text.contains(hint), "{reply:?}\n{text}");
    }
}

#[test]
fn a_gated_file_says_how_to_get_a_token() {
    let case = Case::new(&files());
    case.fake.fault(|faults| {
        faults.hub.insert("/resolve/".into(), Reply::new(401).header("X-Error-Code", "GatedRepo"));
    });
    let error = case.fails(&Hub { token: None, ..case.hub() }, NAME).to_string();
    assert!(error.contains("set HF_TOKEN"), "{error}");
    let error = case.fails(&case.hub(), NAME).to_string();
    assert!(error.contains("was sent"), "{error}");
}

#[test]
fn hostile_file_names_and_etags_write_nothing_outside() {
    for hostile in ["../../evil", "/tmp/evil", "a/../../evil", "..\\\\evil", "a//b"] {
        let case = Case::new(&files());
        let listing = format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"{hostile}"}}]}}"#);
        case.fake.fault(|faults| {
            faults.hub.insert("/api/models/".into(), Reply::new(200).body(listing));
        });
        let error = case.fails(&case.hub(), NAME).to_string();
        assert!(error.contains("invalid file name"), "{error}");
    }
    for hostile in ["../../../evil", "a/b", "..", ""] {
        let case = Case::new(&files());
        case.fake.fault(|faults| faults.etag = Some(hostile.into()));
        let error = case.fails(&case.hub(), NAME).to_string();
        assert!(error.contains("identifies no content"), "{error}");
        assert_eq!(case.parts(), Vec::<u64>::new());
    }
    let index = r#"{"weight_map":{"a":"../../../evil"}}"#;
    let case = Case::new(&[("config.json", b"{}".to_vec()), ("model.safetensors.index.json", index.into())]);
    assert!(case.fails(&case.hub(), NAME).to_string().contains("bare name"));
}

#[test]
fn without_a_network_the_cache_of_another_program_is_used_or_the_error_has_a_hint() {
    let case = Case::new(&files());
    // Nothing listens on a port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = Hub { endpoint: format!("http://127.0.0.1:{port}"), ..case.hub() };
    let error = case.fails(&dead, NAME);
    assert_eq!(error.kind, Kind::Hub);
    let text = error.to_string();
    assert!(text.contains("HTTPS_PROXY") && text.contains("HF_HOME") && text.contains("HF_ENDPOINT"), "{text}");
    let unknown = Hub { endpoint: "https://hub.invalid".into(), ..case.hub() };
    assert!(case.fails(&unknown, NAME).to_string().contains("hub.invalid"));

    let model = case.resolve().unwrap();
    fs::remove_dir_all(case.repo().join("listings")).unwrap();
    assert_eq!(resolve_model(NAME, &dead, &mut ()).unwrap().path, model.path);
    fs::remove_file(model.path.join("tokenizer.json")).unwrap();
    case.fails(&dead, NAME);
}

#[test]
fn offline_mode_uses_only_the_cache() {
    let case = Case::new(&files());
    let offline = Hub { offline: true, ..case.hub() };
    let error = case.fails(&offline, NAME).to_string();
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(case.fake.requests(), 0);
}

#[test]
fn a_full_disk_is_named_and_a_later_run_completes() {
    let case = Case::new(&files());
    case.fake.fault(|faults| faults.cuts = vec![10, 0, 0, 0]);
    case.fails(&Hub { retries: 1, ..case.hub() }, NAME);
    let part = fs::read_dir(case.repo().join("blobs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "incomplete"))
        .unwrap();
    // Every write to this device fails because it is full.
    fs::remove_file(&part).unwrap();
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    case.fake.fault(|faults| faults.cuts.clear());
    let error = case.fails(&case.hub(), NAME);
    assert_eq!(error.kind, Kind::File);
    assert!(error.to_string().contains("free some space"), "{error}");
    fs::remove_file(&part).unwrap();
    case.resolve().unwrap();
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let case = Case::new(&files());
    let file = case.cache.path().join("file");
    fs::write(&file, "").unwrap();
    let error = case.fails(&Hub { cache: file.clone(), ..case.hub() }, NAME);
    assert_eq!(error.kind, Kind::File);
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[test]
fn two_concurrent_fetches_download_each_file_once() {
    let case = Case::new(&files());
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| case.resolve()), scope.spawn(|| case.resolve())];
        for one in both {
            one.join().unwrap().unwrap();
        }
    });
    let weights =
        case.fake.content.take_requests().iter().filter(|request| request.path.contains("safetensors")).count();
    assert_eq!(weights, 1);
}

#[test]
fn repositories_that_are_no_models_are_refused_before_the_download() {
    let config = || ("config.json", b"{}".to_vec());
    let cases = [
        (vec![("README.md", vec![])], "expected config.json", "transformers model"),
        (vec![config()], "expected model.safetensors", "is it a model"),
        (vec![config(), ("pytorch_model.bin", vec![])], "expected model.safetensors", "pickle"),
        (vec![config(), ("a.gguf", vec![])], "expected model.safetensors", "GGUF"),
    ];
    for (files, message, hint) in cases {
        let case = Case::new(&files);
        let error = case.fails(&case.hub(), NAME).to_string();
        assert!(error.contains(message) && error.contains(hint), "{error}");
        assert_eq!(case.fake.requests(), 1);
    }
}

#[test]
fn names_that_are_neither_folder_nor_hub_name_are_refused_without_a_request() {
    let case = Case::new(&files());
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tiny")).unwrap();
    let file = folder.path().join("model.gguf");
    fs::write(&file, "").unwrap();
    let slip = folder.path().join("tinny").display().to_string();
    for (name, expected) in [
        (slip.as_str(), "did you mean the folder"),
        ("gpt2", "owner/name"),
        ("", "owner/name"),
        ("../nowhere/at/all", "owner/name"),
        ("a/b/c", "looked in"),
        ("owner/name@../x", "owner/name@revision"),
        (file.to_str().unwrap(), "found the file"),
    ] {
        let error = case.fails(&case.hub(), name);
        assert_eq!(error.kind, Kind::Input, "{name}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    assert_eq!(case.fake.requests(), 0);
}

#[test]
fn a_folder_is_used_as_it_is() {
    let case = Case::new(&files());
    let folder = tempfile::tempdir().unwrap();
    let model = resolve_model(folder.path().to_str().unwrap(), &case.hub(), &mut ()).unwrap();
    assert_eq!((model.path.as_path(), model.commit), (folder.path(), None));
}

#[test]
fn a_silent_server_times_out() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(5));
        Reply::new(200)
    });
    let case = Case::new(&files());
    let hub = Hub { endpoint: server.address(), timeout: Duration::from_millis(200), ..case.hub() };
    let start = Instant::now();
    assert!(case.fails(&hub, NAME).to_string().contains("timeout"));
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// Run by the next test in a separate process: a fetch from a silent server.
#[test]
#[ignore = "run by ctrl_c_ends_a_fetch_at_once"]
fn fetch_from_a_silent_server() {
    let Ok(endpoint) = std::env::var("SILENT_SERVER") else { return };
    lorhai::interrupt::install().unwrap();
    let case = Case::new(&files());
    let hub = Hub { endpoint, timeout: Duration::from_secs(30), ..case.hub() };
    println!("asking");
    assert_eq!(resolve_model(NAME, &hub, &mut ()).unwrap_err().kind, Kind::Stopped);
}

#[test]
fn ctrl_c_ends_a_fetch_at_once() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(30));
        Reply::new(200)
    });
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "models::fetch_from_a_silent_server", "--ignored", "--nocapture"])
        .env("SILENT_SERVER", server.address())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while server.take_requests().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
