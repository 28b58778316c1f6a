//! Reads the CEL expressions that give a fallback its arguments. Never evaluates one: the executor does.

use cel::{
    common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr},
    parser::Parser,
};

use crate::nesting;

/// Longest expression, in bytes.
const MAX_BYTES: usize = 4 * 1024;
/// Deepest recursion of the parser where it guards itself, as for conditions within conditions.
const MAX_DEPTH: u16 = 24;
/// Comprehensions (`map`, `filter`, `exists`, `all`) within each other: each further one would multiply the work by
/// the items of another list. One may follow another: `a.filter(x, …).map(x, …)`.
const MAX_COMPREHENSIONS: usize = 1;
/// What an expression may name.
const VARIABLES: [&str; 3] = ["arguments", "error", "tool"];
/// Names of types, which stand for themselves (CEL specification, "Values").
const TYPES: [&str; 10] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];
/// Longest text of the parser that is told, in characters.
const MAX_TOLD: usize = 200;

/// Checks an expression; the error says what is wrong with it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are taken", text.len()));
    }
    nesting::check(text)?;
    let root = Parser::new()
        .max_recursion_depth(MAX_DEPTH)
        .parse(text)
        .map_err(|errors| format!("is not a CEL expression: {}", told(&errors.errors)))?;
    if matches!(root.expr, Expr::Literal(_) | Expr::List(_)) {
        return Err("gives no object; write {\"name\": value, …}".into());
    }
    let mut walk = Walk::default();
    walk.expression(&root, 0);
    if let Some(name) = walk.unknown {
        return Err(format!("names {name:?}; there are {} only", VARIABLES.join(", ")));
    }
    if walk.deepest > MAX_COMPREHENSIONS {
        return Err("has a map, filter, exists or all within another".into());
    }
    Ok(())
}

fn told(errors: &[cel::ParseError]) -> String {
    let Some(first) = errors.first() else { return "it cannot be read".into() };
    let message: String =
        first.msg.chars().take(MAX_TOLD).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{message} (line {}, column {})", first.pos.0, first.pos.1)
}

/// What was seen on the way through an expression.
#[derive(Default)]
struct Walk<'a> {
    /// Variables of the comprehensions around.
    bound: Vec<&'a str>,
    /// The first name that stands for nothing.
    unknown: Option<&'a str>,
    /// Comprehensions within each other, at most.
    deepest: usize,
}

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a IdedExpr, depth: usize) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.expression(&select.operand, depth),
            Expr::Call(call) => {
                for part in call.target.iter().map(Box::as_ref).chain(&call.args) {
                    self.expression(part, depth);
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.expression(element, depth)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Struct(made) => made.entries.iter().for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr, depth: usize) {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key, depth);
                self.expression(&entry.value, depth);
            }
        }
    }

    /// The range is gone through once, outside of the variables; the rest once an item.
    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr, depth: usize) {
        self.deepest = self.deepest.max(depth);
        self.expression(&comprehension.iter_range, depth - 1);
        self.expression(&comprehension.accu_init, depth - 1);
        let before = self.bound.len();
        self.bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
        self.bound.extend(comprehension.iter_var2.as_deref());
        self.expression(&comprehension.loop_cond, depth);
        self.expression(&comprehension.loop_step, depth);
        self.expression(&comprehension.result, depth);
        self.bound.truncate(before);
    }

    fn name(&mut self, name: &'a str) {
        let is_known = VARIABLES.contains(&name) || TYPES.contains(&name) || self.bound.contains(&name);
        if !is_known && self.unknown.is_none() {
            self.unknown = Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_over_what_there_is_are_taken() {
        for good in [
            "arguments",
            r#"{"q": arguments.query, "why": error.code, "instead_of": tool}"#,
            r#"{"n": arguments.items.filter(i, i.size > 1).map(i, i.parts).size()}"#,
            r#"has(arguments.q) ? {"q": string(arguments.q)} : {"ok": arguments.all(k, k != "")}"#,
            r#"{"is": type(arguments.q) == string, "a": arguments.a.map(x, x), "b": arguments.b.map(x, x)}"#,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    /// On a thread of 2 MiB, as tests and blocking tasks have, without optimisation.
    #[test]
    fn the_worst_that_is_parsed_stays_within_the_stack() {
        let nested = |open: &str, close: &str| format!("{}a{}", open.repeat(8), close.repeat(8));
        let mixed = nested("a || b && c < d + e * -(", ")");
        let conditions = format!("{}{}", "a ? b : ".repeat(15), nested("f(a ? b : ", ")"));
        for text in [
            nested("(", ")"),
            nested("[", "]"),
            nested("{a: ", "}"),
            nested("a.map(x, ", ")"),
            mixed,
            conditions,
            format!("a{}", ".a".repeat(511)),
            format!("a{}", "+a".repeat(511)),
            format!("a{}", "[0]".repeat(255)),
            format!("{}a", "-".repeat(511)),
        ] {
            let _ = check(&text);
        }
    }

    #[test]
    fn every_other_is_refused_with_the_reason() {
        let nested = "arguments.items.map(i, i.parts.filter(p, p.size > 1))";
        let long = format!("{{\"q\": \"{}\"}}", "x".repeat(MAX_BYTES));
        let deep = "(".repeat(2_000);
        let conditions = "a ? b : ".repeat(40);
        for (bad, says) in [
            ("", "not a CEL expression"),
            ("{", "not a CEL expression"),
            ("arguments.", "line 1, column"),
            ("{\"q\": secrets.key}", "names \"secrets\""),
            ("arguments.a.map(x, x) + [x]", "names \"x\""),
            ("arguments.x.map(a, b)", "names \"b\""),
            ("[arguments]", "gives no object"),
            ("\"text\"", "gives no object"),
            (nested, "within another"),
            ("{'n': arguments.a.map(x, [x.exists(y, y)])}", "within another"),
            (&long, "4096"),
            (&deep, "8 deep"),
            (&conditions, "not a CEL expression"),
        ] {
            let wrong = check(bad).expect_err(bad);
            assert!(wrong.contains(says), "{bad}: {wrong}");
        }
    }
}
