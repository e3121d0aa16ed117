//! Who may ask, and for what.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

/// Pages hold all that they need; nothing is fetched from elsewhere, and nobody frames them.
const POLICY: &str = "default-src 'self' data:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'";

/// What is served, and where.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub address: SocketAddr,
    pub folder: PathBuf,
}

/// Answers reading alone, to those who call this machine by a name of its own: a page elsewhere whose name was made to point here is turned away. Hidden
/// files are nobody's business.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    if !is_own(host, guard.address) || is_foreign(&request) {
        return (StatusCode::FORBIDDEN, "this server answers to its own address alone").into_response();
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path();
    if is_hidden(path) || path.strip_prefix("/runs/").is_some_and(|file| !is_inside(&guard.folder, file)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// Whether a page elsewhere asks, by a picture or a script: one may lead here by a link, and no more.
fn is_foreign(request: &Request) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|h| h.to_str().ok()).unwrap_or("");
    header("sec-fetch-site") == "cross-site" && header("sec-fetch-mode") != "navigate"
}

/// Whether a request's host is this server: by number, or as `localhost`. Who listens on every address answers to every name.
fn is_own(host: &str, address: SocketAddr) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit())).map_or(host, |(name, _)| name);
    let number = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || number.is_ok_and(|ip| ip.is_loopback() || ip == address.ip()) || address.ip().is_unspecified()
}

/// Whether some part of a path begins with a dot, written plainly or in percent signs.
fn is_hidden(path: &str) -> bool {
    decoded(path).split(['/', '\\']).any(|part| part.starts_with('.'))
}

/// Whether a file is there, lies in the folder, and is hidden nowhere on the way, whatever links lead to it.
fn is_inside(folder: &Path, file: &str) -> bool {
    is_within(folder, &folder.join(decoded(file).trim_start_matches('/')))
}

/// The same of a path.
pub(crate) fn is_within(folder: &Path, path: &Path) -> bool {
    let place = path.canonicalize().ok();
    let place =
        place.zip(folder.canonicalize().ok()).and_then(|(file, folder)| file.strip_prefix(folder).map(Path::to_path_buf).ok());
    place.is_some_and(|place| !is_hidden(&place.to_string_lossy()))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The runs that a query names, as `NAME/HASH`; those that lead elsewhere are left out.
pub(crate) fn wanted(query: &str) -> Vec<String> {
    let named = query.split('&').filter_map(|pair| pair.strip_prefix("run=")).map(decoded);
    named.filter(|run| !run.is_empty() && !run.starts_with('/') && !is_hidden(run)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_known_by_the_host_they_ask_for() {
        let here: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for own in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080"] {
            assert!(is_own(own, here), "{own}");
        }
        for foreign in ["example.org", "example.org:8080", "192.168.1.7", "localhost.example.org:80", ""] {
            assert!(!is_own(foreign, here), "{foreign}");
        }
        assert!(is_own("build-machine:8080", "0.0.0.0:8080".parse().unwrap()));
    }

    #[test]
    fn hidden_files_stay_hidden() {
        for path in ["/runs/.cache/x", "/runs/a/%2e%2e/b", "/runs/..%2fetc", "/runs/%2Ecache", "/runs/a/..\\b"] {
            assert!(is_hidden(path), "{path}");
        }
        assert!(!is_hidden("/runs/name/0a1b/report.html"));
        assert_eq!(wanted("run=a%2Fb&run=../x&run=/etc&other=1&run=c/d"), ["a/b", "c/d"]);
    }
}
