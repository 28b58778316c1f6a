//! Reads what the command line names: a file, or standard input as "-".

use std::io::Read;

/// Longest file taken: what the server takes in one message.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The text of a file, or of standard input for "-".
pub fn read(file: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {file}: {error}");
    let mut text = String::new();
    let size = if file == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?
    } else {
        let open = std::fs::File::open(file).map_err(failed)?;
        open.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?
    };
    if size as u64 > MAX_BYTES {
        return Err(format!("{file} is larger than 4 MiB, the most that one message may have"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_a_missing_or_endless_one_refused() {
        assert!(read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap().contains("toolcrib"));
        assert!(read("/nowhere/at/all").unwrap_err().contains("/nowhere/at/all"));
        assert!(read("/dev/zero").unwrap_err().contains("larger than"));
    }
}
