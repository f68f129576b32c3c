//! Runs the binary in a folder of its own, and talks HTTP to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A folder with a node's data directory in it.
pub struct Home(tempfile::TempDir);

/// A loaded machine may need this long to start a process.
const PATIENCE: Duration = Duration::from_secs(60);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// `millpond ARGUMENTS`, on this data directory by environment, and on nothing else of the user's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command.env("MILLPOND_DATA_DIR", self.data_dir()).env("MILLPOND_DIRECT_ADDRESSES", "127.0.0.1");
        command.args(arguments);
        command
    }

    /// Runs a command to its end, with this text on standard input.
    pub fn ask(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input closes it first.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What a command prints that succeeds.
    pub fn says(&self, arguments: &[&str], input: &str) -> String {
        let output = self.ask(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command prints that fails.
    pub fn refuses(&self, arguments: &[&str], input: &str) -> String {
        let output = self.ask(arguments, input);
        assert!(!output.status.success(), "{arguments:?} should fail and prints {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// `millpond run` on a free port, until it listens.
    pub fn run(&self) -> Running {
        self.run_with(&[])
    }

    /// As `run`, with more arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&["run", "--listen", "127.0.0.1:0"]);
        let mut child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (shown, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let log = shown.clone();
        let readers = vec![
            std::thread::spawn(move || {
                BufReader::new(out).lines().for_each(|line| drop(shown.send((true, line.unwrap()))))
            }),
            std::thread::spawn(move || {
                BufReader::new(err).lines().for_each(|line| drop(log.send((false, line.unwrap()))))
            }),
        ];
        let mut running =
            Running { child, lines, readers, printed: Vec::new(), logged: Vec::new(), address: String::new() };
        running.until_line("http://127.0.0.1:");
        running.address = std::fs::read_to_string(self.data_dir().join("listening_on")).unwrap().trim_end().to_owned();
        running
    }
}

/// A running node; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<(bool, String)>,
    readers: Vec<JoinHandle<()>>,
    /// Lines of standard output.
    pub printed: Vec<String>,
    /// Lines of standard error.
    pub logged: Vec<String>,
    /// What the file `listening_on` says.
    pub address: String,
}

impl Running {
    /// Waits for a line with this text in it.
    pub fn until_line(&mut self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ok((printed, line)) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            else {
                panic!("no line with {part:?} came; printed {:?}, logged {:?}", self.printed, self.logged);
            };
            let found = line.contains(part);
            if printed {
                self.printed.push(line)
            } else {
                self.logged.push(line)
            };
            if found {
                return;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process; takes in the rest of what it said.
    pub fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        for (printed, line) in self.lines.try_iter() {
            if printed {
                self.printed.push(line)
            } else {
                self.logged.push(line)
            };
        }
        status
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended();
    }

    /// SIGTERM and the end, which must be in order.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended();
        assert!(status.success(), "{:?}", self.logged);
    }

    /// One HTTP request: the status, and the body as JSON.
    pub fn http(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut stream = self.send(method, path, token, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Sends a request and does not wait for the answer.
    pub fn send(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let host = &self.address;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The permission bits of a file or folder.
#[cfg(unix)]
pub fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}
