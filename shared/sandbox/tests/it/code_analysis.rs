//! The program behind the tool code_analysis: what it finds, what it refuses, and that it runs nothing of what it reads.

use super::*;
use serde_json::{Value, json};

const PROGRAM: &str = include_str!("../../../../services/executor/src/builtin/code_analysis.py");

const UNSAFE: &str = r#"import os
import pickle
import subprocess


class Loader:
    def load(self, name):
        token = "hunter2-C4NARY"
        subprocess.call("cat " + name, shell=True)  # nosec
        return pickle.loads(undefined(name))


def many(x):
    match x:
        case 1: return 1
        case 2: return 2
        case 3: return 3
    for y in x:
        if y:
            return y
    return [eval(z) for z in x]
"#;

struct Analysis {
    fixture: Fixture,
    workspace: TempDir,
}

impl Analysis {
    async fn start() -> Option<Self> {
        Some(Self { fixture: Fixture::start().await?, workspace: open_folder() })
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.workspace.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn run(&self, arguments: Value) -> Output {
        let readable = vec![self.workspace.path().to_owned()];
        let job = Job { input: arguments, readable, ..Job::new(PROGRAM) };
        self.fixture.sandbox.run(job).await.unwrap()
    }

    async fn answer(&self, arguments: Value) -> Value {
        let output = self.run(arguments).await;
        assert_eq!(output.exit, Exit::Ok, "{}", output.stderr);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
        output.result.unwrap()
    }

    async fn refusal(&self, arguments: Value) -> String {
        match self.run(arguments).await.exit {
            Exit::Raised { kind, message } if kind == "ValueError" => message,
            other => panic!("not a ValueError but {other:?}"),
        }
    }
}

/// Tool, rule, severity and line of every finding.
fn findings(answer: &Value) -> Vec<(String, String, String, u64)> {
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = answer["findings"].as_array().unwrap().iter();
    all.map(|f| (word(f, "tool"), word(f, "rule"), word(f, "severity"), f["line"].as_u64().unwrap()))
        .collect()
}

fn has(answer: &Value, tool: &str, rule: &str, severity: &str, line: u64) -> bool {
    findings(answer).contains(&(tool.into(), rule.into(), severity.into(), line))
}

#[tokio::test]
async fn security_findings_errors_and_complexity_are_told_with_their_place() {
    let Some(analysis) = Analysis::start().await else { return };
    let answer = analysis.answer(json!({"code": UNSAFE, "max_complexity": 4})).await;
    for (tool, rule, severity, line) in [
        ("bandit", "B602", "high", 9),
        ("bandit", "B301", "medium", 10),
        ("bandit", "B307", "medium", 21),
        ("bandit", "B105", "low", 8),
        ("pyflakes", "UndefinedName", "medium", 10),
        ("pyflakes", "UnusedImport", "low", 1),
        ("pyflakes", "UnusedVariable", "low", 8),
        ("mccabe", "C901", "low", 13),
    ] {
        assert!(has(&answer, tool, rule, severity, line), "{rule}: {answer}");
    }
    let counted: u64 =
        ["high", "medium", "low"].iter().map(|level| answer["counts"][level].as_u64().unwrap()).sum();
    assert_eq!(counted, answer["findings"].as_array().unwrap().len() as u64);
    assert_eq!(answer["findings"][0]["rule"], "B602", "the gravest comes first");
    assert!(!answer.to_string().contains("C4NARY"), "a password that is found is not told");
    let metrics = &answer["metrics"];
    assert_eq!(
        (&metrics["functions"], &metrics["classes"], &metrics["lines"]),
        (&json!(2), &json!(1), &json!(21))
    );
    assert_eq!((&metrics["blank_lines"], &metrics["code_lines"]), (&json!(4), &json!(17)));
    assert_eq!(metrics["most_complex"][0]["name"], "many");

    let few = analysis.answer(json!({"code": UNSAFE, "checks": ["security"], "min_severity": "high"})).await;
    assert_eq!(findings(&few).len(), 1);
    let quiet = json!({"code": UNSAFE, "checks": ["security"], "respect_nosec": true});
    assert!(!has(&analysis.answer(quiet).await, "bandit", "B602", "high", 9));
    let cut = analysis.answer(json!({"code": UNSAFE, "max_findings": 2})).await;
    assert_eq!((findings(&cut).len(), &cut["truncated"]), (2, &json!(true)));
    assert_eq!(analysis.answer(json!({"code": "x = 1\n"})).await["findings"], json!([]));
}

#[tokio::test]
async fn source_that_does_not_parse_is_a_finding() {
    let Some(analysis) = Analysis::start().await else { return };
    let nested = format!("x = {}1", "-".repeat(100_000));
    for code in ["def f(:\n", "a\0b", "# -*- coding: nope -*-\n", nested.as_str(), "'\u{1f600}", "\u{feff}if"]
    {
        let answer = analysis.answer(json!({"code": code})).await;
        let found = &answer["findings"][0];
        assert_eq!((&found["tool"], &found["rule"]), (&json!("python"), &json!("syntax-error")), "{answer}");
        assert_eq!(answer["counts"]["high"], 1);
    }
    analysis.write("good.py", "import os\n");
    analysis.write("bad.py", b"x = '\xff'\n");
    let both = analysis.answer(json!({"paths": ["."]})).await;
    assert!(
        has(&both, "python", "syntax-error", "high", 1) && has(&both, "pyflakes", "UnusedImport", "low", 1)
    );
}

#[tokio::test]
async fn nothing_that_is_examined_runs() {
    let Some(analysis) = Analysis::start().await else { return };
    let code = "import sys\nprint('C4NARY')\nsys.exit(7)\nraise SystemExit(7)\n";
    for name in
        ["setup.py", "conftest.py", "bandit.py", "mccabe.py", "pyflakes/__init__.py", "ast.py", "yaml.py"]
    {
        analysis.write(name, code);
    }
    let answer = analysis.answer(json!({"paths": ["."]})).await;
    assert_eq!(answer["metrics"]["files"], 7);
    analysis.answer(json!({"code": code})).await;
}

#[tokio::test]
async fn files_and_folders_of_the_workspace_are_examined_and_no_others() {
    let Some(analysis) = Analysis::start().await else { return };
    analysis.write("src/a.py", "import os\n");
    analysis.write("src/b.pyi", "x: int\n");
    analysis.write("src/c.js", "eval(x)\n");
    let answer = analysis.answer(json!({"paths": ["src", "src/a.py"]})).await;
    assert_eq!(answer["metrics"]["files"], 2);
    assert_eq!(answer["findings"][0]["path"], "src/a.py");
    let outside = open_folder();
    std::fs::write(outside.path().join("secret.py"), "import C4NARY\n").unwrap();
    std::os::unix::fs::symlink(outside.path(), analysis.workspace.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.py"), analysis.workspace.path().join("src/l.py"))
        .unwrap();
    assert!(!analysis.answer(json!({"paths": ["src"]})).await.to_string().contains("C4NARY"));
    for (path, words) in [
        ("src/c.js", "supported are .py and .pyi"),
        ("missing.py", "there is no"),
        ("../x.py", "must be relative"),
        ("/usr/lib/python3.11/ast.py", "must be relative"),
        ("src/../../x.py", "must be relative"),
        ("link", "leads out"),
        ("link/secret.py", "leads out"),
        ("src/l.py", "leads out"),
    ] {
        let message = analysis.refusal(json!({"paths": [path]})).await;
        assert!(message.starts_with("paths: ") && message.contains(words), "{path}: {message}");
    }
    analysis.write("large.py", vec![b'\n'; (1 << 20) + 1]);
    assert!(analysis.refusal(json!({"paths": ["large.py"]})).await.contains("too much"));
}
