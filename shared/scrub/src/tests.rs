//! No form of a secret stays, wherever it stands, and nothing else goes.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
};
use serde_json::json;

use super::*;

const CANARY: &str = "c4n\"ry/+?=~ \u{fc}secret";

fn key(text: &str) -> Forms {
    Forms::of([text])
}

#[test]
#[allow(clippy::format_collect, reason = "short texts of a test")]
fn every_form_goes_wherever_it_stands() {
    let forms = key(CANARY);
    let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
    let in_json = json!(CANARY).to_string();
    let php = in_json.trim_matches('"').replace('/', "\\/").replace('\u{fc}', "\\u00fc");
    let mut texts = vec![
        CANARY.to_owned(),
        hex::encode(CANARY),
        hex::encode_upper(CANARY),
        encoded.clone(),
        encoded.replace('+', "%20"),
        encoded.replace("%2F", "%2f").replace("%2B", "%2b").replace("%3F", "%3f").replace("%3D", "%3d"),
        in_json,
        php,
    ];
    texts[5] = texts[5].replace("%7E", "%7e").replace("%C3%BC", "%c3%bc");
    texts.extend([
        CANARY.chars().rev().collect(),
        CANARY.replace('"', "&quot;"),
        CANARY.replace('"', "&#34;"),
        CANARY.replace('"', "&quot;").replace('/', "&#x2F;"),
        CANARY.replace('=', "=3D").replace('\u{fc}', "=C3=BC"),
        CANARY.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        CANARY.bytes().map(|byte| format!("\\x{byte:02X}")).collect(),
        hex::encode(CANARY).as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":"),
        // By coreutils: printf 'c4n"ry/+?=~ \xc3\xbcsecret' | base32
        "MM2G4ITSPEXSWPZ5PYQMHPDTMVRXEZLU".to_owned(),
        STANDARD.encode(CANARY.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()),
    ]);
    for before in ["", "a", "ab", "user:", "some more"] {
        for after in ["", "x", "xy", " and more"] {
            let text = format!("{before}{CANARY}{after}");
            texts.extend([STANDARD.encode(&text), URL_SAFE.encode(&text), STANDARD_NO_PAD.encode(&text)]);
        }
    }
    for text in texts {
        assert!(forms.is_in(&text), "{text}");
        let clean = forms.replace(&format!("so: {text}, {text}."), "***");
        assert_eq!(clean.matches("***").count(), 2, "{text}: {clean}");
        assert!(!forms.is_in(&clean), "{clean}");
    }
    let bytes = [&[0xff, 0x00][..], CANARY.as_bytes(), &[0xfe]].concat();
    assert!(forms.is_in(bytes));
}

#[test]
fn what_is_json_in_json_is_known_where_the_rest_is_cut_off() {
    let forms = key(CANARY);
    let mut told = CANARY.chars().rev().collect::<String>() + CANARY;
    for _ in 0..3 {
        told = json!({"in": told}).to_string();
        let clean = forms.replace(&format!("{told}, cut"), "***");
        assert_eq!(clean.matches("***").count(), 2, "{clean}");
        assert!(!clean.contains("ry/") && !clean.contains("/yr"), "{clean}");
    }
}

#[test]
fn what_is_short_or_not_there_stays_to_the_byte() {
    let text = "the key ab is abcde";
    assert_eq!(key("abcde").replace(text, "***"), text);
    assert_eq!(Forms::default().replace_cut(text, "***"), text);
    assert_eq!(Forms::of([""; 0]).begun(text), None);
    assert_eq!(key("abcdef").replace_cut("nothing of it is here", "***"), "nothing of it is here");
}

#[test]
fn the_longest_of_several_goes_first() {
    assert_eq!(Forms::of(["abcdef", "abcdefgh"]).replace("abcdefgh abcdefg", "*"), "* *g");
}

#[test]
fn what_a_cut_leaves_of_one_goes_too() {
    let clean = |text: &str| key("abcdefghijkl").replace_cut(text, "***");
    assert_eq!(clean("the server said: abcdefgh"), "the server said: ***");
    assert_eq!(clean("the server said: abcdefghijk…"), "the server said: ***");
    assert_eq!(clean("the server said: abcdefghijkl"), "the server said: ***");
    assert_eq!(clean("the server said: abc"), "the server said: abc");
    assert_eq!(clean("abcdefgh said the server..."), "abcdefgh said the server...");
    let in_base64 = STANDARD.encode("Basic abcdefghijkl");
    assert_eq!(clean(&in_base64[..18]), format!("{}***", &in_base64[..8]));
}

#[test]
fn the_user_is_the_key_where_there_is_no_password_and_the_pair_goes_whole() {
    let clean =
        |user: &str, password: &str, text: &str| Forms::of(basic(user, password)).replace(text, "***");
    let pair = STANDARD.encode("sk_live_canary:");
    assert!(clean("sk_live_canary", "", &pair).starts_with("***"));
    assert_eq!(clean("sk_live_canary", "", "sk_live_canary"), "***");
    assert_eq!(clean("octocat", "hunter22", "octocat has hunter22"), "octocat has ***");
    let short = STANDARD.encode("me:hunter");
    assert!(clean("me", "hunter", &format!("Basic {short}")).contains("***"));
}

#[test]
fn a_private_key_is_known_by_any_line_of_its_own() {
    let pem =
        "-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkqhkiG9w0B\r\nAQ==\r\n-----END PRIVATE KEY-----\r\n";
    let forms = Forms::of(private_key(pem));
    assert_eq!(forms.replace("MIIEvQIBADANBgkqhkiG9w0B AQ==", "***"), "*** AQ==");
    assert_eq!(forms.replace("-----BEGIN PRIVATE KEY-----", "***"), "-----BEGIN PRIVATE KEY-----");
}
