//! Prometheus: a private server that reads pages of the processes under test, and the queries of the dashboard.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{free_port, wait_until};
use crate::scratch::Scratch;

/// The dashboard, relative to this package.
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../grafana/dashboards/fleet.json");

/// A server that asks every second, killed when the value goes away.
pub struct Prometheus {
    port: u16,
    running: Child,
    _folder: Scratch,
}

impl Prometheus {
    /// Starts one that reads the pages at these ports of this machine.
    pub fn start(pages: &[u16]) -> Self {
        let (folder, port) = (Scratch::new("prometheus"), free_port());
        let targets: Vec<String> = pages.iter().map(|page| format!("'127.0.0.1:{page}'")).collect();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: longshore\n  \
             static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(&config, text).unwrap_or_else(|error| panic!("write {}: {error}", config.display()));
        let running = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start prometheus: {error}"));
        let server = Self { port, running, _folder: folder };
        wait_until("prometheus is not ready", || super::listens(port) && get(port, "/-/ready").is_some());
        server
    }

    /// What a query gives now; nothing where it gives an empty vector.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let answer = get(self.port, &format!("/api/v1/query?query={}", encode(query)));
        let answer = answer.unwrap_or_else(|| panic!("prometheus refuses {query}"));
        let json: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{query}: {error}: {answer}"));
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until a query gives something.
    pub fn wait_for(&self, query: &str) {
        wait_until(&format!("prometheus has nothing for {query}"), || !self.query(query).is_empty());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

/// Every query of the dashboard with the title of its panel, as Grafana would ask it for all pools.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(DASHBOARD).unwrap_or_else(|error| panic!("read {DASHBOARD}: {error}"));
    let dashboard: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{DASHBOARD}: {error}"));
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap_or_default();
            let query = query.replace("$__rate_interval", "1m").replace("$pool", ".*");
            queries.push((panel["title"].as_str().unwrap_or_default().to_owned(), query));
        }
    }
    queries
}

/// The body of an answer with status 200. One request a connection.
pub fn get(port: u16, path: &str) -> Option<String> {
    let (status, body) = ask(port, path)?;
    (status == 200).then_some(body)
}

/// The sum of the series of a page whose lines begin with `metric` and have all these `labels`, each as `name="value"`.
pub fn figure(port: u16, metric: &str, labels: &[&str]) -> f64 {
    let page = get(port, "/metrics").unwrap_or_else(|| panic!("no page at port {port}"));
    let wanted = |line: &&str| {
        let Some(rest) = line.strip_prefix(metric) else { return false };
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok());
    page.lines().filter(wanted).filter_map(value).sum()
}

/// Status and body of an answer.
pub fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn encode(query: &str) -> String {
    let mut text = String::new();
    for byte in query.bytes() {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
