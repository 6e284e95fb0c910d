//! Makes the help articles into a table ([`help`]), builds the style sheet and embeds the static files: `style/*.css` in name order
//! as one sheet with its hash in its name, the articles' pictures with theirs, `public/*` under their own names, each also compressed
//! as far as it goes, so that no request ever compresses.

#[path = "build/help.rs"]
mod help;

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::disallowed_methods, reason = "cargo says where to write in an environment variable")]
fn main() -> Result<()> {
    // Asked when it runs: one target directory may serve several checkouts.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (style, public) = (root.join("style"), root.join("public"));
    println!("cargo:rerun-if-changed={}", style.display());
    println!("cargo:rerun-if-changed={}", public.display());

    let articles = root.join("app/help");
    println!("cargo:rerun-if-changed={}", articles.display());
    let pictures = help::pictures(&articles.join("pictures"))?;
    fs::write(out.join("help.rs"), help::table(&articles, &pictures)?)?;

    let mut code = String::new();
    let mut names = vec!["CSS".to_owned()];

    let mut css = String::new();
    for file in sorted_files(&style)? {
        css.push_str(&squeeze(&fs::read_to_string(file)?));
    }
    let url = format!("/assets/main.{}.css", hash(css.as_bytes()));
    code.push_str(&embed(&out, "CSS", &url, css.as_bytes(), true)?);

    for file in sorted_files(&public)? {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("a file name in public/ is not UTF-8")?;
        let constant = constant(name);
        code.push_str(&embed(&out, &constant, &format!("/{name}"), &fs::read(&file)?, false)?);
        names.push(constant);
    }

    for file in pictures.values().flat_map(help::Picture::files) {
        let constant = constant(&file.url);
        code.push_str(&embed(&out, &constant, &file.url, &file.bytes, true)?);
        names.push(constant);
    }

    writeln!(code, "/// Every asset there is.\npub static ALL: &[Asset] = &[{}];", names.join(", "))?;
    fs::write(out.join("assets.rs"), code)?;
    Ok(())
}

/// What Rust can call a file.
fn constant(name: &str) -> String {
    name.trim_start_matches('/').replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_uppercase()
}

/// Without folders.
fn sorted_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Takes out comments, indentation and empty lines, and nothing that could change a meaning: brotli does the rest.
fn squeeze(css: &str) -> String {
    let mut plain = String::new();
    let mut rest = css;
    while let Some((before, comment)) = rest.split_once("/*") {
        plain.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |sheet, line| sheet + line + "\n")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn brotli(raw: &[u8]) -> Result<Vec<u8>> {
    let mut br = Vec::new();
    let params = ::brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    ::brotli::BrotliCompress(&mut &*raw, &mut br, &params)?;
    Ok(br)
}

fn gzip(raw: &[u8]) -> Result<Vec<u8>> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(raw)?;
    Ok(gz.finish()?)
}

/// Writes the file and its compressed forms to `OUT_DIR`, and answers the constant that includes them.
fn embed(out: &Path, constant: &str, url: &str, raw: &[u8], immutable: bool) -> Result<String> {
    let include = |extension: &str, bytes: &[u8]| -> Result<String> {
        let name = format!("{constant}.{extension}");
        fs::write(out.join(&name), bytes)?;
        Ok(format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\"))"))
    };
    // What is compressed already, or tiny, gains too little to be worth unpacking.
    let shorter = |extension: &str, compress: fn(&[u8]) -> Result<Vec<u8>>| -> Result<String> {
        let smaller = if Path::new(url).extension().is_some_and(|it| it == "png") {
            None
        } else {
            Some(compress(raw)?).filter(|it| it.len() * 10 < raw.len() * 9)
        };
        smaller.map_or_else(|| Ok("None".to_owned()), |bytes| Ok(format!("Some({})", include(extension, &bytes)?)))
    };
    let mime = match url.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "png")) => "image/png",
        Some((_, "svg")) => "image/svg+xml",
        Some((_, "txt")) => "text/plain; charset=utf-8",
        _ => return Err(format!("{url}: say in app/build.rs which type this file has").into()),
    };
    Ok(format!(
        "/// `{url}`\npub const {constant}: Asset = Asset {{ path: {url:?}, mime: {mime:?}, raw: {raw}, br: {br}, gz: {gz}, etag: \"W/\\\"{etag}\\\"\", immutable: {immutable} }};\n",
        raw = include("raw", raw)?,
        br = shorter("br", brotli)?,
        gz = shorter("gz", gzip)?,
        etag = hash(raw),
    ))
}
