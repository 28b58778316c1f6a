//! `toolcrib recommend`: the tools that have done best, by category of task, and why.

use clap::Args;
use proto::{
    selector::v1::{ListRecommendationsRequest, ListRecommendationsResponse, Recommendation},
    types::v1::Category,
};

use super::{
    client::Client,
    effectiveness::trend,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::{parser, word},
};

/// Which recommendations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib recommend
  toolcrib recommend --category web_search --limit 5")]
pub struct RecommendArgs {
    /// Only for tasks of this category
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Most tools for each category
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=20))]
    limit: i32,
}

/// Runs the command.
pub async fn run(args: RecommendArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = ListRecommendationsRequest {
        category: args.category.map_or(0, |category| category as i32),
        per_category: args.limit,
    };
    let answer: ListRecommendationsResponse =
        client.selector().list_recommendations(request).await?.into_inner();
    output.show(&answer, |view| table(&answer.recommendations, view))
}

fn table(recommendations: &[Recommendation], view: View) -> String {
    let headings = ["CATEGORY", "", "TOOL", "SUITABILITY", "", "RUNS", "TREND", "WHY"];
    let mut table = Table::new(&headings).whole(&[0, 2, 3]);
    let mut last = None;
    for each in recommendations {
        let is_first = last.replace(each.category) != Some(each.category);
        let category = if is_first { word::<Category>(each.category) } else { " ".to_owned() };
        table.row(vec![
            toned(category, Tone::Bold),
            toned(each.rank.to_string(), Tone::Dim),
            toned(&each.tool_name, if each.rank == 1 { Tone::Good } else { Tone::Plain }),
            cell(human::bar(each.suitability_score, 8)),
            number(format!("{:.2}", each.suitability_score)),
            number(each.executions.to_string()),
            trend(each.trend),
            cell(&each.reason),
        ]);
    }
    table.render(view, "no tool has enough history yet; run some: toolcrib call TOOL key=value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn each_category_is_named_once_with_its_tools_in_order() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let each = |rank, tool: &str| Recommendation {
            category: Category::WebSearch.into(),
            rank,
            tool_name: tool.into(),
            suitability_score: 0.75,
            executions: 12,
            reason: "11 of 12 calls succeeded".into(),
            ..Recommendation::default()
        };
        let text = table(&[each(1, "brave"), each(2, "google")], view);
        assert_eq!(text.matches("web_search").count(), 1, "{text}");
        assert!(text.contains("1  brave") && text.contains("██████··"), "{text}");
        assert!(text.lines().nth(2).unwrap().contains("2  google"), "{text}");
        assert!(table(&[], view).starts_with("no tool has enough history"));
    }
}
