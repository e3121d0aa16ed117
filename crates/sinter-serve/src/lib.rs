//! A folder of runs and sweeps in the browser, as it stands now: read-only, and on this machine alone unless the user says otherwise.
//!
//! `watch` looks at the folder while somebody is listening, and tells what changed; `pages` draws; `guard` keeps strangers out; the rest are the files
//! of the runs.

mod guard;
mod pages;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as InPath, RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tower_http::services::ServeDir;

use guard::Guard;
use watch::{Seen, Watch};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no such folder.
    #[error("{0} is no folder: name the one that `sinter run` writes into, such as reports")]
    NoFolder(PathBuf),
    /// The address is taken, or not this machine's.
    #[error("{address}: {source}; `--port` takes another")]
    Address {
        /// What was asked for.
        address: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The server could not go on.
    #[error("the server: {0}")]
    Io(#[from] std::io::Error),
}

/// What all requests share.
struct Shared {
    folder: PathBuf,
    watch: Watch,
}

/// Serves a folder until the process ends; `ready` hears the address, once there is one.
pub fn serve(folder: &Path, address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    if !folder.is_dir() {
        return Err(ServeError::NoFolder(folder.to_path_buf()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let taken = |source| ServeError::Address { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(taken)?;
        let address = listener.local_addr()?;
        ready(address);
        let guard = Guard { address, folder: folder.to_path_buf() };
        let shared = Arc::new(Shared { folder: folder.to_path_buf(), watch: Watch::start(folder) });
        let app = routes(shared).layer(middleware::from_fn_with_state(guard, guard::check));
        axum::serve(listener, app).await?;
        Ok(())
    })
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/events", get(events))
        .route("/compare", get(compare))
        .route("/sweeps/{name}", get(sweep))
        .nest_service("/runs", ServeDir::new(&shared.folder).append_index_html_on_directories(false))
        .with_state(shared)
}

/// Reads files in a thread of its own: others are answered meanwhile.
async fn read<T: Send + 'static>(shared: Arc<Shared>, work: impl FnOnce(&Shared) -> T + Send + 'static) -> Result<T, Response> {
    let failed = |e: tokio::task::JoinError| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response();
    tokio::task::spawn_blocking(move || work(&shared)).await.map_err(failed)
}

async fn home(State(shared): State<Arc<Shared>>) -> Result<Html<String>, Response> {
    let page = read(shared, |shared| pages::home(&shared.folder, &Seen::of(&shared.folder).tables)).await?;
    Ok(Html(page))
}

/// What changed, as it changes.
async fn events(State(shared): State<Arc<Shared>>) -> Sse<impl Stream<Item = Result<Event, std::convert::Infallible>>> {
    let told = WatchStream::new(shared.watch.listen()).map(|seen| Ok(Event::default().event("seen").data(seen.to_json())));
    Sse::new(told).keep_alive(KeepAlive::default())
}

/// All runs that are done, or those that the query names: `?run=NAME/HASH&run=...`.
async fn compare(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Html<String>, Response> {
    let wanted = guard::wanted(query.as_deref().unwrap_or(""));
    let page = read(shared, move |shared| pages::compare(&shared.folder, &wanted)).await?;
    page.map(Html).map_err(|reason| (StatusCode::NOT_FOUND, reason).into_response())
}

async fn sweep(State(shared): State<Arc<Shared>>, InPath(name): InPath<String>) -> Result<Html<String>, Response> {
    let page = read(shared, move |shared| pages::sweep(&shared.folder, &name)).await?;
    page.map(Html).map_err(|reason| (StatusCode::NOT_FOUND, reason).into_response())
}
