//! A selection for people: the ranking with a bar for each score, or what came nearest when no tool is suitable.

use proto::selector::v1::{NearMiss, RankedTool, SelectToolsResponse};

use super::explained;
use crate::cli::{
    human,
    output::{Tone, View},
    table::{Table, cell, number, toned},
};

/// The whole answer; with `explain`, what it was made of as well.
pub(super) fn page(answer: &SelectToolsResponse, explain: bool, view: View) -> String {
    let mut parts =
        vec![if answer.primary.is_some() { ranking(answer, view) } else { nothing(answer, view) }];
    parts.extend(warnings(answer).into_iter().map(|line| view.style.paint(&line, Tone::Warn)));
    if explain {
        parts.push(explained::page(answer, view));
    } else {
        parts.push(view.style.paint(&considered(answer), Tone::Dim));
    }
    if let Some(best) = &answer.primary {
        let call =
            format!("toolcrib call {} --selection {} …", human::visible(&best.name), answer.selection_id);
        parts.push(view.style.paint(&format!("next: {call}"), Tone::Dim));
    }
    parts.join("\n")
}

fn ranking(answer: &SelectToolsResponse, view: View) -> String {
    let headings =
        ["", "TOOL", "COMBINED", "", "MATCH", "", "SEMANTIC", "", "SUITABILITY", "", "RUNS", "WHY"];
    let mut table = Table::new(&headings).whole(&[1, 2, 4, 6, 8]);
    let ranked = answer.primary.iter().chain(&answer.alternatives).enumerate();
    for (nth, tool) in ranked {
        table.row(row(&(nth + 1).to_string(), tool, nth == 0));
    }
    for tool in &answer.pinned {
        table.row(row("\u{2691}", tool, false));
    }
    table.render(view, "no tool fits")
}

fn row(place: &str, tool: &RankedTool, is_first: bool) -> Vec<comfy_table::Cell> {
    let tone = if is_first { Tone::Good } else { Tone::Plain };
    let mut cells = vec![toned(place, Tone::Dim), toned(&tool.name, tone)];
    let scores = [
        (tool.combined_score, 10),
        (tool.match_score, 6),
        (tool.semantic_score, 6),
        (tool.suitability_score, 6),
    ];
    for (score, cells_wide) in scores {
        cells.push(toned(human::bar(score, cells_wide), tone));
        cells.push(number(format!("{score:.2}")));
    }
    cells.push(number(tool.executions.to_string()));
    cells.push(cell(why(tool)));
    cells
}

fn why(tool: &RankedTool) -> String {
    if tool.reason.is_empty() { human::brief(&tool.description, 60) } else { tool.reason.clone() }
}

fn nothing(answer: &SelectToolsResponse, view: View) -> String {
    let reason = human::visible(&answer.unsuitable_reason);
    let told = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let mut parts = vec![view.style.paint(&format!("no suitable tool{told}"), Tone::Warn)];
    if !answer.nearest_misses.is_empty() {
        parts.push(misses(&answer.nearest_misses, view));
    }
    if !answer.pinned.is_empty() {
        let names: Vec<_> = answer.pinned.iter().map(|tool| human::visible(&tool.name)).collect();
        parts.push(format!("pinned: {}", names.join(", ")));
    }
    parts.join("\n\n")
}

fn misses(misses: &[NearMiss], view: View) -> String {
    let mut table = Table::new(&["NEAREST", "SEMANTIC", "", "LEFT OUT BY", "WHY"]).whole(&[0, 1, 3]);
    for miss in misses {
        table.row(vec![
            cell(&miss.name),
            cell(human::bar(miss.semantic_score, 6)),
            number(format!("{:.2}", miss.semantic_score)),
            cell(&miss.reason),
            cell(&miss.explanation),
        ]);
    }
    table.render(view, "")
}

/// What everybody has to know of this answer.
fn warnings(answer: &SelectToolsResponse) -> Vec<String> {
    let mut lines = Vec::new();
    if !answer.mode_reason.is_empty() {
        let mode = explained::mode(answer.mode);
        lines.push(human::visible(&format!("matched in {mode} mode: {}", answer.mode_reason)));
    }
    if answer.task_cut_at > 0 {
        lines.push(format!("the task was cut: its first {} bytes were read", answer.task_cut_at));
    }
    lines
}

fn considered(answer: &SelectToolsResponse) -> String {
    let mut excluded: Vec<_> =
        answer.excluded.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    excluded.sort();
    let mut told = vec![format!("{} considered", answer.candidate_count)];
    if !excluded.is_empty() {
        told.push(format!("left out: {}", excluded.join(", ")));
    }
    if answer.primary.is_some() {
        told.push(format!("{} sure", explained::percent(answer.confidence)));
    }
    human::visible(&told.join("; "))
}

#[cfg(test)]
mod tests {
    use proto::selector::v1::{Mode, ModelHelp, NextTool};

    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    fn tool(name: &str, score: f64) -> RankedTool {
        RankedTool {
            name: name.into(),
            combined_score: score,
            match_score: score,
            semantic_score: score,
            suitability_score: 0.5,
            reason: "fits".into(),
            signals: [("lexical".to_owned(), score), ("embedding".to_owned(), 0.25)].into(),
            ..RankedTool::default()
        }
    }

    fn answer() -> SelectToolsResponse {
        SelectToolsResponse {
            selection_id: "s-1".into(),
            primary: Some(tool("adder", 0.8)),
            alternatives: vec![tool("reader", 0.2)],
            pinned: vec![tool("ask_a_person", 0.0)],
            candidate_count: 7,
            excluded: [("NO_GRANT".to_owned(), 3)].into(),
            confidence: 0.82,
            mode: Mode::Full.into(),
            ..SelectToolsResponse::default()
        }
    }

    #[test]
    fn the_ranking_shows_scores_as_bars_and_what_was_left_out() {
        let text = page(&answer(), false, view());
        let row = text.lines().find(|line| line.contains("adder")).unwrap();
        assert!(row.contains("████████··") && row.contains("0.80") && row.contains("███···"), "{text}");
        assert!(text.contains("7 considered; left out: 3 NO_GRANT; 82 % sure"), "{text}");
        assert!(text.contains("toolcrib call adder --selection s-1"), "{text}");
        assert!(text.contains("\u{2691}  ask_a_person") && !text.contains("EMBEDDING"), "{text}");
    }

    #[test]
    fn explained_it_shows_a_bar_for_each_signal_and_what_decided() {
        let full = SelectToolsResponse {
            next_tools: vec![NextTool { name: "mail.send".into(), probability: 0.75, count: 6 }],
            implied_capabilities: vec!["analyze".into()],
            model_help: Some(ModelHelp { skipped: "timeout".into(), ..ModelHelp::default() }),
            policy_version: 3,
            vectors_pending: 2,
            ..answer()
        };
        let text = page(&full, true, view());
        for told in [
            "TOOL          LEXICAL",
            "EMBEDDING",
            "████▊·  0.80",
            "82 %",
            "full",
            "mail.send 75 % (6 seen)",
            "NO_GRANT",
            "analyze",
            "version 3",
            "timeout",
            "2 tools",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        assert!(!text.contains("HISTORY"), "no tool has that signal\n{text}");
    }

    #[test]
    fn without_a_suitable_tool_the_nearest_are_shown_with_their_reasons() {
        let miss = NearMiss {
            name: "drop\u{1b}_table".into(),
            reason: "NO_GRANT".into(),
            explanation: "ask an admin for a grant".into(),
            semantic_score: 0.5,
        };
        let none = SelectToolsResponse {
            primary: None,
            alternatives: vec![],
            unsuitable_reason: "no tool that you may call fits".into(),
            nearest_misses: vec![miss],
            mode: Mode::Lexical.into(),
            mode_reason: "model.onnx is damaged".into(),
            task_cut_at: 32_768,
            ..answer()
        };
        let text = page(&none, false, view());
        assert!(text.starts_with("no suitable tool: no tool that you may call fits\n"), "{text}");
        for told in [
            "drop\u{fffd}_table",
            "███···",
            "ask an admin for a grant",
            "matched in lexical mode: model.onnx is damaged",
            "its first 32768 bytes were read",
            "pinned: ask_a_person",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        assert!(!text.contains("next:") && !text.contains("sure"), "{text}");
    }
}
