//! A terminal to type in and to read from: a session of tmux with a server of its own.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long to wait for what the screen is to show.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its server ends with the value.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    /// `name` tells the terminals of a test program apart.
    pub fn new(name: &str) -> Terminal {
        Terminal { socket: format!("lorhai-{name}-{}", std::process::id()) }
    }

    /// Runs `command` by the shell on a screen of this size, at the root of the repository.
    pub fn start(&self, (columns, rows): (u32, u32), command: &str) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let size = ["-x", &columns, "-y", &rows, "-c", env!("CARGO_MANIFEST_DIR")];
        let started = self.tmux(&[&["-f", "/dev/null", "new-session", "-d"][..], &size, &[command]].concat());
        assert!(started.status.success(), "tmux does not start: {}", String::from_utf8_lossy(&started.stderr));
    }

    pub fn tmux(&self, arguments: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-L", &self.socket]).args(arguments);
        tmux.output().unwrap_or_else(|error| panic!("this test needs tmux: {error}"))
    }

    pub fn screen(&self) -> String {
        let shown = self.tmux(&["capture-pane", "-p", "-t", "0"]).stdout;
        String::from_utf8_lossy(&shown).trim_end().to_owned()
    }

    pub fn key(&self, name: &str) {
        self.tmux(&["send-keys", "-t", "0", name]);
    }

    /// Types a text. tmux takes a `;` at the end for its own.
    pub fn write(&self, text: &str) {
        let text = text.strip_suffix(';').map_or(text.to_owned(), |text| format!("{text}\\;"));
        self.tmux(&["send-keys", "-t", "0", "-l", "--", &text]);
    }

    /// Types a text, and the Enter key.
    pub fn enter(&self, text: &str) {
        self.write(text);
        self.key("Enter");
    }

    /// Waits until `shows` is true of the screen, and returns the screen.
    pub fn wait(&self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if shows(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "waited for {what}, found:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the screen shows `part`, and returns the screen.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait(&format!("`{part}`"), |screen| screen.contains(part))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
