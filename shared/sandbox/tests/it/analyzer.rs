//! The program behind the tool pandas_analyzer, on 120,000 rows: each operation against values computed here, without
//! pandas, from the rows that were written; and its refusals.

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

const PROGRAM: &str = include_str!("../../../../services/executor/src/builtin/pandas_analyzer.py");
const ROWS: u64 = 120_000;
const REGIONS: [&str; 5] = ["east", "north", "south", "west", ""];

/// One line of the test data.
struct Sale {
    id: u64,
    region: &'static str,
    day: String,
    quantity: u64,
    price: Option<f64>,
}

/// Rows from a linear congruential generator, so that they are the same each time.
fn sales() -> Vec<Sale> {
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..ROWS)
        .map(|n| {
            let quantity = next(100);
            Sale {
                id: 9_007_199_254_740_993 + n,
                region: REGIONS[usize::try_from(next(5)).unwrap()],
                day: format!("2026-0{}-01", 1 + next(6)),
                quantity,
                price: (next(20) > 0).then(|| float(quantity) * 2.5 + float(next(1000)) / 10.0),
            }
        })
        .collect()
}

fn float(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

struct Analyzer {
    fixture: Fixture,
    workspace: TempDir,
    sales: Vec<Sale>,
}

impl Analyzer {
    async fn start() -> Option<Self> {
        let fixture = Fixture::start().await?;
        let (workspace, sales) = (open_folder(), sales());
        let mut text = String::from("id,region,day,quantity,price\n");
        for s in &sales {
            let price = s.price.map(|price| price.to_string()).unwrap_or_default();
            writeln!(text, "{},{},{},{},{price}", s.id, s.region, s.day, s.quantity).unwrap();
        }
        std::fs::write(workspace.path().join("sales.csv"), text).unwrap();
        Some(Self { fixture, workspace, sales })
    }

    async fn run(&self, arguments: Value) -> Output {
        let readable = vec![self.workspace.path().to_owned()];
        let job = Job { input: arguments, readable, ..Job::new(PROGRAM) };
        self.fixture.sandbox.run(job).await.unwrap()
    }

    /// The answer to arguments that are good.
    async fn answer(&self, arguments: Value) -> Value {
        let output = self.run(arguments).await;
        assert_eq!(output.exit, Exit::Ok, "{}", output.stderr);
        output.result.unwrap()
    }

    /// The message to arguments that are not.
    async fn refusal(&self, arguments: Value) -> String {
        match self.run(arguments).await.exit {
            Exit::Raised { kind, message } if kind == "ValueError" => message,
            other => panic!("not a ValueError but {other:?}"),
        }
    }

    fn prices(&self) -> Vec<f64> {
        self.sales.iter().filter_map(|s| s.price).collect()
    }
}

fn near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} is not {expected}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / float(values.len() as u64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// Sum of products of deviations.
fn spread(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
}

fn row<'a>(answer: &'a Value, field: &str, value: &Value) -> &'a Value {
    let rows = answer["result"].as_array().unwrap();
    rows.iter().find(|row| &row[field] == value).unwrap_or_else(|| panic!("no row with {field} = {value}"))
}

#[tokio::test]
async fn summary_of_every_column() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let arguments =
        json!({"path": "sales.csv", "operation": "summary", "date_columns": ["day"], "chart": true});
    let output = analyzer.run(arguments).await;
    assert!(output.wall < Duration::from_secs(5), "{:?}", output.wall);
    let answer = output.result.unwrap();
    assert_eq!((&answer["rows"], &answer["truncated"]), (&json!(ROWS), &json!(false)));
    assert_eq!(answer["columns"], json!(["id", "region", "day", "quantity", "price"]));
    let prices = analyzer.prices();
    let price = row(&answer, "column", &json!("price"));
    assert_eq!(price["count"], json!(prices.len()));
    assert_eq!(price["missing"], json!(analyzer.sales.len() - prices.len()));
    near(&price["mean"], mean(&prices));
    near(&price["std"], (spread(&prices, &prices) / float(prices.len() as u64 - 1)).sqrt());
    near(&price["median"], median(prices.clone()));
    near(&price["max"], prices.iter().copied().fold(f64::MIN, f64::max));
    let id = row(&answer, "column", &json!("id"));
    assert_eq!((&id["min"], &id["type"]), (&json!(9_007_199_254_740_993_u64), &json!("integer")));
    assert_eq!(row(&answer, "column", &json!("day"))["min"], json!("2026-01-01T00:00:00"));
    let region = row(&answer, "column", &json!("region"));
    let missing = analyzer.sales.iter().filter(|s| s.region.is_empty()).count();
    assert_eq!((&region["missing"], &region["unique"]), (&json!(missing), &json!(4)));
    assert_eq!(answer["chart"]["$schema"], json!("https://vega.github.io/schema/vega-lite/v5.json"));
}

#[tokio::test]
async fn correlation_of_two_columns() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let columns = json!(["quantity", "price"]);
    let arguments =
        json!({"path": "sales.csv", "operation": "correlation", "columns": columns, "chart": true});
    let answer = analyzer.answer(arguments).await;
    let whole: Vec<_> = analyzer.sales.iter().filter(|s| s.price.is_some()).collect();
    let quantities: Vec<f64> = whole.iter().map(|s| float(s.quantity)).collect();
    let prices = analyzer.prices();
    let (across, a, b) =
        (spread(&quantities, &prices), spread(&quantities, &quantities), spread(&prices, &prices));
    near(&answer["result"][0]["correlation"], across / (a * b).sqrt());
    assert_eq!(answer["chart"]["mark"], json!("rect"));
    let records = json!([{"x": 1, "y": 1}, {"x": 2, "y": 8}, {"x": 3, "y": 27}]);
    let ranks = json!({"records": records, "operation": "correlation", "method": "spearman"});
    near(&analyzer.answer(ranks).await["result"][0]["correlation"], 1.0);
}

#[tokio::test]
async fn groups_with_several_aggregations() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let aggregations = json!({"quantity": ["sum", "max"], "price": ["mean", "median"], "id": "min"});
    let arguments = json!({"path": "sales.csv", "operation": "groupby", "by": ["region"], "chart": true,
        "aggregations": aggregations, "sort_by": "quantity_sum"});
    let answer = analyzer.answer(arguments).await;
    assert_eq!(answer["result"].as_array().unwrap().len(), 5, "the missing region is a group");
    let mut sums = Vec::new();
    for region in REGIONS {
        let of: Vec<_> = analyzer.sales.iter().filter(|s| s.region == region).collect();
        let key = if region.is_empty() { Value::Null } else { json!(region) };
        let found = row(&answer, "region", &key);
        let sum = of.iter().map(|s| s.quantity).sum::<u64>();
        let prices: Vec<f64> = of.iter().filter_map(|s| s.price).collect();
        assert_eq!((&found["rows"], &found["quantity_sum"]), (&json!(of.len()), &json!(sum)));
        assert_eq!(found["id_min"], json!(of.iter().map(|s| s.id).min()));
        near(&found["price_mean"], mean(&prices));
        near(&found["price_median"], median(prices));
        sums.push(sum);
    }
    sums.sort_unstable_by(|a, b| b.cmp(a));
    let found: Vec<_> =
        answer["result"].as_array().unwrap().iter().map(|r| r["quantity_sum"].as_u64().unwrap()).collect();
    assert_eq!(found, sums);
    assert_eq!(answer["chart"]["encoding"]["y"]["field"], json!("quantity_sum"));
}

#[tokio::test]
async fn a_pivot_of_days_and_regions() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let arguments = json!({"path": "sales.csv", "operation": "pivot", "index": "day", "columns": "region",
        "values": "quantity", "aggregation": "sum", "date_columns": ["day"], "chart": true});
    let answer = analyzer.answer(arguments).await;
    let mut expected: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for s in &analyzer.sales {
        *expected.entry((&s.day, s.region)).or_default() += s.quantity;
    }
    assert_eq!((answer["result"].as_array().unwrap().len(), expected.len()), (6, 30));
    for ((day, region), sum) in expected {
        let found = row(&answer, "day", &json!(format!("{day}T00:00:00")));
        assert_eq!(found[if region.is_empty() { "null" } else { region }], json!(sum), "{day} {region}");
    }
    assert_eq!(answer["chart"]["data"]["values"].as_array().unwrap().len(), 30);
}

#[tokio::test]
async fn every_source_gives_the_same_table() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let folder = analyzer.workspace.path();
    std::fs::write(folder.join("t.tsv"), "k\tv\na\t1\nb\t\n").unwrap();
    std::fs::write(folder.join("t.json"), r#"[{"k":"a","v":1},{"k":"b","v":null}]"#).unwrap();
    std::fs::write(folder.join("t.jsonl"), "{\"k\":\"a\",\"v\":1}\n{\"k\":\"b\"}\n").unwrap();
    for source in [
        json!({"path": "t.tsv"}),
        json!({"path": "t.json"}),
        json!({"path": "t.jsonl"}),
        json!({"csv": "k,v\na,1\nb,\n"}),
        json!({"csv": "k;v\na;1\nb;\n", "delimiter": ";"}),
        json!({"records": [{"k": "a", "v": 1}, {"k": "b"}]}),
    ] {
        let mut arguments = source;
        arguments["operation"] = json!("groupby");
        arguments["by"] = json!("k");
        arguments["aggregations"] = json!({"v": "max"});
        let rows = json!([{"k": "a", "rows": 1, "v_max": 1}, {"k": "b", "rows": 1, "v_max": null}]);
        assert_eq!(analyzer.answer(arguments.clone()).await["result"], rows, "{arguments}");
    }
}

#[tokio::test]
async fn what_is_left_out_or_inexact_is_said() {
    let Some(analyzer) = Analyzer::start().await else { return };
    let cut = json!({"path": "sales.csv", "operation": "groupby", "by": ["quantity"], "limit": 10});
    let cut = analyzer.answer(cut).await;
    assert_eq!((cut["result"].as_array().unwrap().len(), &cut["truncated"]), (10, &json!(true)));
    assert!(cut["warnings"][0].as_str().unwrap().contains("100 rows, of which 10"));
    let large = json!([{"k": 1, "v": i64::MAX}, {"k": 1, "v": i64::MAX}]);
    let large = json!({"records": large, "operation": "groupby", "by": "k", "aggregations": {"v": "sum"}});
    let large = analyzer.answer(large).await;
    near(&large["result"][0]["v_sum"], 2.0 * 9_223_372_036_854_775_807.0);
    assert!(large["warnings"][0].as_str().unwrap().contains("64 bits"));
    let exact = json!([{"v": 9_007_199_254_740_993_u64}, {"v": null}, {}]);
    let exact = analyzer.answer(json!({"records": exact, "operation": "summary"})).await;
    let row = json!({"max": exact["result"][0]["max"], "missing": exact["result"][0]["missing"]});
    assert_eq!(row, json!({"max": 9_007_199_254_740_993_u64, "missing": 2}));
    let infinite = analyzer.answer(json!({"csv": "a\n1.5\ninf\n2.5\n", "operation": "summary"})).await;
    near(&infinite["result"][0]["mean"], 2.0);
    assert!(infinite["warnings"][0].as_str().unwrap().contains("1 infinite"));
    let constant = json!({"csv": "a,b\n1,1\n1,2\n", "operation": "correlation"});
    let constant = analyzer.answer(constant).await;
    assert_eq!(constant["result"][0]["correlation"], Value::Null);
    assert!(constant["warnings"][0].as_str().unwrap().contains("constant"));
}

#[tokio::test]
async fn bad_arguments_are_named() {
    let Some(analyzer) = Analyzer::start().await else { return };
    std::os::unix::fs::symlink("/etc/hostname", analyzer.workspace.path().join("out.csv")).unwrap();
    let csv = "a,b\n1,x\n";
    for (arguments, message) in [
        (json!({}), "operation: must be one of summary"),
        (json!({"operation": "sum"}), "operation: must be one of"),
        (json!({"operation": "summary"}), "path: give exactly one of"),
        (json!({"operation": "summary", "csv": csv, "path": "x.csv"}), "csv: give exactly one of"),
        (json!({"operation": "summary", "path": "../x.csv"}), "path: must be relative"),
        (json!({"operation": "summary", "path": "a/../../x.csv"}), "path: must be relative"),
        (json!({"operation": "summary", "path": "/etc/passwd"}), "path: must be relative"),
        (json!({"operation": "summary", "path": "out.csv"}), "path: leads out of the workspace"),
        (json!({"operation": "summary", "path": "none.csv"}), "path: there is no file 'none.csv'"),
        (json!({"operation": "summary", "path": "sales.csv", "colour": 1}), "colour: is not an argument"),
        (json!({"operation": "summary", "csv": csv, "by": ["a"]}), "by: has no meaning for summary"),
        (json!({"operation": "summary", "csv": csv, "limit": 0}), "limit: must be a whole number"),
        (json!({"operation": "summary", "csv": csv, "chart": "yes"}), "chart: must be true or false"),
        (json!({"operation": "summary", "csv": csv, "columns": ["c"]}), "columns: there is no column 'c'"),
        (json!({"operation": "summary", "csv": csv, "date_columns": "b"}), "date_columns: column 'b'"),
        (json!({"operation": "summary", "csv": ""}), "csv: cannot be read"),
        (json!({"operation": "summary", "records": [1]}), "records: must be a list of objects"),
        (json!({"operation": "correlation", "csv": csv}), "columns: correlation needs two"),
        (
            json!({"operation": "correlation", "csv": csv, "columns": ["a", "b"]}),
            "columns: column 'b' holds text",
        ),
        (json!({"operation": "groupby", "csv": csv}), "by: is needed for groupby"),
        (
            json!({"operation": "groupby", "csv": csv, "by": "a", "aggregations": {"b": "mean"}}),
            "aggregations: mean needs",
        ),
        (
            json!({"operation": "groupby", "csv": csv, "by": "a", "aggregations": {"b": "mode"}}),
            "aggregations: 'mode' is none",
        ),
        (
            json!({"operation": "groupby", "csv": csv, "by": "a", "sort_by": "z"}),
            "sort_by: the result has no column",
        ),
        (json!({"operation": "pivot", "csv": csv, "index": "a"}), "values: is needed for pivot"),
    ] {
        let found = analyzer.refusal(arguments.clone()).await;
        assert!(found.starts_with(message), "{arguments}: {found}");
    }
}
