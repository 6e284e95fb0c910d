//! The style sheet and the static files, embedded and compressed by `build.rs`.
//! Nothing that is drawn for a request: pictures inside pages are components.
//! To add a file, put it in `public/`: it is served under its own name, and known here by that name in capitals. A style goes
//! into a file of `style/`, one a concern, whose number is its place in the cascade.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// One file as it is served.
#[derive(Debug)]
pub struct Asset {
    pub path: &'static str,
    pub mime: &'static str,
    pub raw: &'static [u8],
    /// Brotli, where it saves enough.
    pub br: Option<&'static [u8]>,
    /// Gzip, where it saves enough.
    pub gz: Option<&'static [u8]>,
    /// Weak: the same for every encoding.
    pub etag: &'static str,
    /// Its name holds its hash, so it never changes under that name.
    pub immutable: bool,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The routes of all assets.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ALL.iter().fold(Router::new(), |router, asset| router.route(asset.path, get(async |headers: HeaderMap| serve(asset, &headers))))
}

/// Answers with the file in the best encoding the client takes, or with 304 where it has it already.
pub fn serve(asset: &Asset, request: &HeaderMap) -> Response {
    let cache = if asset.immutable { "public, max-age=31536000, immutable" } else { "public, max-age=86400" };
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if has_it(asset, request) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    let (encoding, bytes) = choose(asset, request);
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    (headers, bytes).into_response()
}

fn has_it(asset: &Asset, request: &HeaderMap) -> bool {
    let strong = asset.etag.trim_start_matches("W/");
    let tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == strong
    })
}

/// The encoding with the highest weight, the shorter one where two weigh the same. Plain bytes are the last resort, and what
/// a client gets that refuses everything: a page without its style sheet would be the worse answer.
fn choose(asset: &Asset, request: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let mut best = (0, None, asset.raw);
    for (encoding, bytes) in [("br", asset.br), ("gzip", asset.gz)] {
        let weight = weight(&accepted, encoding);
        if let Some(bytes) = bytes
            && weight > best.0
        {
            best = (weight, Some(encoding), bytes);
        }
    }
    // Only where it is named: left out, plain bytes are merely not forbidden.
    let named = accepted.split(',').any(|item| coding(item).eq_ignore_ascii_case("identity"));
    if named && weight(&accepted, "identity") > best.0 {
        best = (0, None, asset.raw);
    }
    (best.1, best.2)
}

/// The weight of an encoding in thousandths: its own, else that of `*`, else 0. A weight that can't be read counts as 0.
fn weight(accepted: &str, encoding: &str) -> u16 {
    let of = |name: &str| {
        let item = accepted.split(',').find(|item| coding(item).eq_ignore_ascii_case(name))?;
        let parameter = item.split(';').nth(1).map(str::trim);
        Some(parameter.map_or(1_000, |q| q.strip_prefix("q=").or(q.strip_prefix("Q=")).map_or(0, thousandths)))
    };
    of(encoding).or_else(|| of("*")).unwrap_or(0)
}

fn coding(item: &str) -> &str {
    item.split(';').next().unwrap_or_default().trim()
}

/// RFC 9110 §12.4.2: "0", "0.5", "1.000", never more than three decimals.
fn thousandths(q: &str) -> u16 {
    let (whole, decimals) = q.split_once('.').unwrap_or((q, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 {
        return 0;
    }
    format!("{whole}{decimals:0<3}").parse().ok().filter(|weight| *weight <= 1_000).unwrap_or(0)
}

#[cfg(test)]
mod contrast;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn encoding_for(accept: &'static str) -> String {
        let response = serve(&CSS, &request(header::ACCEPT_ENCODING, accept));
        let encoding = response.headers().get(header::CONTENT_ENCODING);
        encoding.map_or("identity", |value| value.to_str().unwrap_or("?")).to_owned()
    }

    #[test]
    fn the_best_accepted_encoding_is_chosen() {
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip", "gzip"),
            ("GZIP", "gzip"),
            ("*", "br"),
            ("", "identity"),
            ("deflate", "identity"),
            ("br;q=0, gzip", "gzip"),
            ("br;q=0.000, gzip;q=0.0", "identity"),
            ("br; q=0.2, gzip; q=0.8", "gzip"),
            ("*;q=0", "identity"),
            ("*;q=0, br;q=0.1", "br"),
            ("br;q=0, *", "gzip"),
            ("identity, br;q=0.5", "identity"),
            ("identity;q=0.1, br;q=0.5", "br"),
            ("br;q=high, gzip;q=0.1", "gzip"),
            ("br;q=1.5", "identity"),
        ] {
            assert_eq!(encoding_for(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_picture_is_never_compressed_again() {
        assert!(MAIL_LOGO_PNG.br.is_none() && MAIL_LOGO_PNG.gz.is_none());
    }

    #[test]
    fn hashed_names_are_cached_for_good_and_others_for_a_day() {
        let css = serve(&CSS, &HeaderMap::new());
        assert_eq!(css.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(css.headers()[header::VARY], "accept-encoding");
        assert_eq!(css.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        let icon = serve(&ICON_SVG, &HeaderMap::new());
        assert_eq!(icon.headers()[header::CACHE_CONTROL], "public, max-age=86400");
        assert_eq!(icon.headers()[header::CONTENT_TYPE], "image/svg+xml");
    }

    #[test]
    fn a_copy_that_is_still_right_is_not_sent_again() {
        for value in [ICON_SVG.etag, "\"other\", *", "*"] {
            let response = serve(&ICON_SVG, &request(header::IF_NONE_MATCH, value));
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{value}");
            assert!(response.headers().contains_key(header::ETAG) && !response.headers().contains_key(header::CONTENT_TYPE));
        }
        assert_eq!(serve(&ICON_SVG, &request(header::IF_NONE_MATCH, "\"other\"")).status(), StatusCode::OK);
        let strong = HeaderValue::from_static(ICON_SVG.etag.trim_start_matches("W/"));
        let strong = HeaderMap::from_iter([(header::IF_NONE_MATCH, strong)]);
        assert_eq!(serve(&ICON_SVG, &strong).status(), StatusCode::NOT_MODIFIED);
    }
}
