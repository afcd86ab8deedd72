//! Reads a `zeo://` URL: where the server is, which storage, and how the client is to be set up.
//!
//! The names of the settings are those that ZEO's own tools use, so that a URL can be carried over.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::options::Options;

/// Text that is not a URL of a zeo server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a zeo URL: {problem}")]
pub struct UrlError {
    url: String,
    problem: String,
}

/// Where a server is, before any name is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host's name or number, and a port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A URL's place, and the options as its settings change them.
pub(crate) fn parse(url: &str, options: Options) -> Result<(Place, Options), UrlError> {
    parts(url, options).map_err(|problem| UrlError { url: url.to_owned(), problem })
}

fn parts(url: &str, mut options: Options) -> Result<(Place, Options), String> {
    let rest = url.strip_prefix("zeo://").ok_or("it does not begin with \"zeo://\"")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let place = if host.is_empty() {
        Place::Unix(socket(path)?)
    } else {
        options.storage = storage(path)?.unwrap_or(options.storage);
        let (host, port) = host_and_port(host)?;
        Place::Tcp(host, port)
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        apply(&mut options, &decoded(name)?, &decoded(value)?)?;
    }
    Ok((place, options))
}

fn socket(path: &str) -> Result<PathBuf, String> {
    match decoded(path)? {
        path if path.len() > 1 => Ok(PathBuf::from(path)),
        _ => Err("it names neither a host nor the path of a socket".to_owned()),
    }
}

fn storage(path: &str) -> Result<Option<String>, String> {
    let name = decoded(path.trim_start_matches('/'))?;
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("a \"[\" without its \"]\"")?,
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| format!("{port:?} is not a port"))?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return Err(format!("{port:?} follows the host")),
    };
    match decoded(host)? {
        host if host.is_empty() => Err("it names no host".to_owned()),
        host => Ok((host, port)),
    }
}

fn apply(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    match name {
        "storage" => value.clone_into(&mut options.storage),
        "cache_size" => options.cache_bytes = bytes(value)?,
        "wait_timeout" => options.wait_timeout = seconds(value)?,
        "wait" if !boolean(value)? => options.wait_timeout = Duration::ZERO,
        "wait" => {}
        "call_timeout" => options.call_timeout = Some(seconds(value)?),
        "label" | "client_label" | "name" => value.clone_into(&mut options.label),
        "read_only" => options.read_only = boolean(value)?,
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    match name {
        "blob_dir" | "shared_blob_dir" | "blob_cache_size" | "blob_cache_size_check" => {
            format!("{name}: this client has no blobs")
        }
        "client" | "var" | "cache_path" => {
            format!("{name}: this client keeps its cache in memory only")
        }
        "username" | "password" | "realm" => format!("{name}: there is no such authentication"),
        other => format!("there is no setting {other:?}; there are: {SETTINGS}"),
    }
}

/// A number of bytes with the suffixes of `ZConfig`: `KB`, `MB` and `GB` count in powers of 1,024.
fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = [("kb", 10), ("mb", 20), ("gb", 30)]
        .iter()
        .find_map(|(suffix, shift)| Some((lower.strip_suffix(suffix)?, 1_usize << shift)))
        .unwrap_or((&lower, 1));
    number::<usize>(digits)
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is not a size such as 64MB"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    number::<f64>(text)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text:?} is not a number of seconds"))
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    text.trim().parse().ok()
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).ok_or("a \"%\" without two digits")?;
        let byte = u8::from_str_radix(code, 16).map_err(|_| format!("\"%{code}\" is no byte"))?;
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

const DEFAULT_PORT: u16 = 8100;
const SETTINGS: &str =
    "storage, cache_size, wait, wait_timeout, call_timeout, label (client_label, name), read_only";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_a_port_and_a_storage() {
        assert_eq!(read("zeo://example.org:9991/accounts"), (tcp("example.org", 9991), "accounts"));
        assert_eq!(read("zeo://example.org"), (tcp("example.org", 8100), "main"));
        assert_eq!(read("zeo://[::1]:8100/main"), (tcp("::1", 8100), "main"));
        assert_eq!(read("zeo://[::1]/"), (tcp("::1", 8100), "main"));
        assert_eq!(read("zeo://h:1/main?storage=1"), (tcp("h", 1), "1"));
    }

    #[test]
    fn the_path_of_a_socket() {
        let place = Place::Unix(PathBuf::from("/run/zeo server.sock"));
        assert_eq!(read("zeo:///run/zeo%20server.sock?storage=x"), (place, "x"));
    }

    #[test]
    fn settings_by_the_names_that_zeo_users_know() {
        let url = "zeo://h?cache_size=20MB&wait_timeout=1.5&call_timeout=3&label=web&read_only=on";
        let (_, options) = parse(url, Options::default()).unwrap();
        assert_eq!(options.cache_bytes, 20 << 20);
        assert_eq!(options.wait_timeout, Duration::from_millis(1500));
        assert_eq!(options.call_timeout, Some(Duration::from_secs(3)));
        assert_eq!(options.label, "web");
        assert!(options.read_only);
        let (_, options) = parse("zeo://h?wait=off", Options::default()).unwrap();
        assert_eq!(options.wait_timeout, Duration::ZERO);
    }

    #[test]
    fn a_setting_that_is_not_known_is_refused_with_a_hint() {
        assert!(refusal("zeo://h?cachesize=1").contains("cache_size"));
        assert!(refusal("zeo://h?blob_dir=/b").contains("no blobs"));
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (url, reason) in [
            ("http://h/", "does not begin"),
            ("zeo://", "neither a host"),
            ("zeo:///", "neither a host"),
            ("zeo://h:x/", "not a port"),
            ("zeo://h:99999/", "not a port"),
            ("zeo://[::1", "without its"),
            ("zeo://[::1]8100", "follows the host"),
            ("zeo://:8100/", "names no host"),
            ("zeo://h/%zz", "no byte"),
            ("zeo://h/%a", "without two digits"),
            ("zeo://h/%ff", "not UTF-8"),
            ("zeo://h?wait=maybe", "neither true nor false"),
            ("zeo://h?cache_size=big", "not a size"),
            ("zeo://h?cache_size=99999999999999GB", "not a size"),
            ("zeo://h?wait_timeout=-1", "not a number of seconds"),
        ] {
            assert!(refusal(url).contains(reason), "{url}: {}", refusal(url));
        }
    }

    fn read(url: &str) -> (Place, &'static str) {
        let (place, options) = parse(url, Options::default()).unwrap();
        let known = ["accounts", "main", "1", "x"];
        (place, known.into_iter().find(|name| *name == options.storage).unwrap())
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp(host.to_owned(), port)
    }

    fn refusal(url: &str) -> String {
        parse(url, Options::default()).unwrap_err().to_string()
    }
}
