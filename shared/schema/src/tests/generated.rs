//! Thousands of schemas, made from seeds, from known ones and by damage: whatever is taken can be compiled again from
//! its text, as the executor does, and validates any value without a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value, json};

use super::super::{compile, read, read_object};

/// SplitMix64 (Steele, Lea, Flood 2014): the same schemas in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const KEYWORDS: [&str; 50] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "unevaluatedProperties",
];
const TEXTS: [&str; 24] = [
    "",
    "a",
    "b",
    "#",
    "#/$defs/a",
    "#/definitions/b",
    "#a",
    "#/properties/a",
    "object",
    "string",
    "array",
    "number",
    "integer",
    "null",
    "date-time",
    "uri",
    "regex",
    "^a+$",
    "^(?=(a+)+$)b",
    "(?<n>a)\\k<n>",
    "[",
    "\\p{L}{2,}",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2020-12/schema",
];

/// A schema as people write them, mostly right.
fn schema(dice: &mut Dice, depth: usize) -> Value {
    if depth == 0 || dice.below(12) == 0 {
        return json!(dice.below(4) != 0);
    }
    let mut members = Map::new();
    for _ in 0..=dice.below(4) {
        let keyword = dice.one(&KEYWORDS);
        members.insert(keyword.to_owned(), argument(dice, keyword, depth - 1));
    }
    Value::Object(members)
}

fn argument(dice: &mut Dice, keyword: &str, depth: usize) -> Value {
    if dice.below(25) == 0 {
        return value(dice, 2);
    }
    match keyword {
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
            (0..=dice.below(2)).map(|_| schema(dice, depth)).collect()
        }
        "$defs" | "definitions" | "properties" | "dependentSchemas" | "dependencies" => ["a", "b"]
            .into_iter()
            .map(|name| (name.to_owned(), schema(dice, depth)))
            .collect::<Map<_, _>>()
            .into(),
        "patternProperties" => json!({dice.one(&["^a", "b$", "^(?!x)", "."]): schema(dice, depth)}),
        "dependentRequired" => json!({"a": ["b"]}),
        "required" => json!([dice.one(&["a", "b", "c"])]),
        "enum" | "examples" => json!([value(dice, 2), value(dice, 1)]),
        "const" | "default" => value(dice, 2),
        "$ref" => {
            json!(dice.one(&["#", "#/$defs/a", "#/$defs/b", "#/definitions/a", "#a", "#/properties/a"]))
        }
        "$dynamicRef" => json!(dice.one(&["#", "#a"])),
        "$anchor" | "$dynamicAnchor" => json!(dice.one(&["a", "b"])),
        "$id" => json!(dice.one(&["https://example.com/a", "urn:x:y", "b.json"])),
        "$schema" => json!(dice.one(&TEXTS[22..])),
        "pattern" => json!(dice.one(&["^a+$", "^(?=a)a", "(a)\\1", "\\d{2,4}", "[\\w-]+"])),
        "format" => json!(dice.one(&["date-time", "uri", "email", "ipv6", "regex", "unheard-of"])),
        "description" | "$comment" | "contentEncoding" => json!("text"),
        "multipleOf" => json!([1, 2, 5][dice.below(3)]),
        _ if keyword.starts_with("max") || keyword.starts_with("min") || keyword.starts_with("exclusive") => {
            json!(dice.below(5))
        }
        _ => schema(dice, depth),
    }
}

/// Any JSON.
fn value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(dice.below(9)),
        3 => json!([0.5, -1e300, 1e-300, 9_007_199_254_740_993.0][dice.below(4)]),
        4 => json!([i64::MIN, -1, i64::MAX][dice.below(3)]),
        5 => json!(dice.one(&TEXTS)),
        6 => (0..dice.below(4)).map(|_| value(dice, depth - 1)).collect(),
        _ => ["a", "b", "c", "$ref"]
            .into_iter()
            .take(dice.below(5))
            .map(|name| (name.to_owned(), value(dice, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Something else in some place.
fn damaged(dice: &mut Dice, schema: &mut Value) {
    let other = match dice.below(3) {
        0 => value(dice, 2),
        1 => self::schema(dice, 2),
        _ => json!({dice.one(&KEYWORDS): value(dice, 1)}),
    };
    match schema {
        Value::Object(members) if !members.is_empty() && dice.below(5) != 0 => {
            let which = dice.below(members.len());
            damaged(dice, members.values_mut().nth(which).unwrap());
        }
        Value::Array(items) if !items.is_empty() && dice.below(5) != 0 => {
            let which = dice.below(items.len());
            damaged(dice, &mut items[which]);
        }
        place => *place = other,
    }
}

/// Schemas of real tools, and of the drafts' less common parts.
fn corpus() -> Vec<Value> {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../services/registry/seed");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(seeds).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let seed: Value = serde_json::from_str(&text).unwrap();
        let schemas = ["input_schema", "output_schema"].into_iter().filter_map(|key| seed.get(key));
        found.extend(schemas.filter(|schema| schema.is_object()).cloned());
    }
    assert!(found.len() > 7, "the seeds are read");
    found.extend([
        json!({"type": "object", "$defs": {"tree": {"$dynamicAnchor": "node", "properties": {"next": {"$dynamicRef": "#node"}}}}, "$ref": "#/$defs/tree"}),
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://x.test/s", "minimum": 1, "exclusiveMinimum": true, "type": "object"}),
        json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true, "properties": {"a": {"$recursiveRef": "#"}}}),
        json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"maxProperties": 2}, "unevaluatedProperties": false}),
        json!({"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}, "rest": {"$ref": "#"}}}]}),
        json!({"prefixItems": [{"type": "string"}], "items": false, "contains": {"const": "x"}, "minContains": 0, "uniqueItems": true}),
        json!({"properties": {"é\u{0}": {"pattern": "^\\p{Lu}"}}, "propertyNames": {"maxLength": 3}, "patternProperties": {"^(?!a)": {"format": "ipv4"}}}),
    ]);
    found
}

#[derive(Default)]
struct Count {
    taken: usize,
    refused: usize,
}

/// The property, of one text.
fn holds(dice: &mut Dice, text: &str, count: &mut Count) {
    let read = catch_unwind(|| (read(text), read_object(text)));
    let (read, read_as_object) = read.unwrap_or_else(|_| panic!("reading {text} panics"));
    let Ok(schema) = read else {
        count.refused += 1;
        assert!(read_as_object.is_err(), "{text}");
        return;
    };
    count.taken += 1;
    let stored = schema.to_string();
    let again: Value = serde_json::from_str(&stored).unwrap();
    let validator = compile(&again).unwrap_or_else(|fault| panic!("taken and of no use: {stored}: {fault}"));
    for _ in 0..3 {
        let value = value(dice, 3);
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let faults: Vec<String> =
                validator.iter_errors(&value).take(100).map(|error| error.masked().to_string()).collect();
            (validator.is_valid(&value), faults.len())
        }));
        let (is_valid, faults) = judged.unwrap_or_else(|_| panic!("{stored} panics at {value}"));
        assert_eq!(is_valid, faults == 0, "{stored} of {value}");
    }
}

#[test]
fn whatever_is_taken_can_be_used() {
    let (mut dice, mut made, mut hurt) = (Dice(20_261_123), Count::default(), Count::default());
    for _ in 0..6_000 {
        let text = schema(&mut dice, 4).to_string();
        holds(&mut dice, &text, &mut made);
    }
    let corpus = corpus();
    for schema in &corpus {
        let mut known = Count::default();
        holds(&mut dice, &schema.to_string(), &mut known);
        assert_eq!(known.taken, 1, "{schema}");
        for _ in 0..150 {
            let mut schema = schema.clone();
            for _ in 0..=dice.below(3) {
                damaged(&mut dice, &mut schema);
            }
            holds(&mut dice, &schema.to_string(), &mut hurt);
        }
    }
    // Both ways are taken often enough to mean something.
    assert!(made.taken > 1_000 && made.refused > 500, "{} taken, {} refused", made.taken, made.refused);
    assert!(hurt.taken > 300 && hurt.refused > 300, "{} taken, {} refused", hurt.taken, hurt.refused);
}
