//! Comparing ends.

use super::*;

#[test]
fn large_schemas_are_compared_in_bounded_time() {
    let started = std::time::Instant::now();
    let texts = |from: u32| -> Vec<String> { (from..from + 30_000).map(|n| n.to_string()).collect() };
    let (kind, _) = told(
        &with(&object(&json!({"enum": texts(0)})), None),
        &with(&object(&json!({"enum": texts(1)})), None),
    );
    assert_eq!(kind, Some(B));
    // Each property is read anew, for only one side refers to the large part.
    let parts: serde_json::Map<String, Value> = (0..3_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let large = |property: Value| {
        let properties: serde_json::Map<_, _> =
            (0..1_000).map(|n| (format!("p{n}"), property.clone())).collect();
        with(&json!({"type": "object", "properties": properties, "$defs": {"big": parts.clone()}}), None)
    };
    let (before, after) = (large(json!({"$ref": "#/$defs/big"})), large(json!({})));
    let changes = compare(&before, &after).unwrap();
    assert!(changes.iter().any(|change| change.kind == B && change.description.contains("too large")));
    // Each keyword leads to a chain of references that is long.
    let chain = |end: &str| {
        let parts: serde_json::Map<_, _> = (0..3_000)
            .map(|n| (format!("d{n}"), json!({"not": {"$ref": format!("#/$defs/d{}", n + 1)}})))
            .chain([("d3000".to_owned(), json!({"type": end}))])
            .collect();
        let properties: serde_json::Map<_, _> =
            (0..1_500).map(|n| (format!("p{n}"), json!({"not": {"$ref": "#/$defs/d0"}}))).collect();
        with(&json!({"type": "object", "properties": properties, "$defs": parts}), None)
    };
    assert_eq!(told(&chain("string"), &chain("number")).0, Some(B));
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
}
