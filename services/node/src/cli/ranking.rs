//! `toolcrib ranking`: the weights that rank tools: fitted to what became of selections, judged, used, reverted.

use clap::Subcommand;
use proto::selector::v1::{
    ActivatePolicyRequest, ActivatePolicyResponse, ListPoliciesRequest, ListPoliciesResponse, Policy,
    PolicyEvaluation, PolicyWeights, RefitPolicyRequest, RefitPolicyResponse, policy::State,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, number, toned},
    words::word,
};

/// What to do with weights.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the versions of the weights, newest first
    List,
    /// Fit new weights to the log of selections and judge them against it
    #[command(after_help = "Examples:
  toolcrib ranking refit
  toolcrib ranking refit --use

What is judged no better than what ranks now is kept as refused, and cannot be used.")]
    Refit {
        /// Let them rank at once, if they are judged good enough
        #[arg(long = "use")]
        activate: bool,
    },
    /// Let a version rank from now on; an older one, or 0 for the built-in weights, to go back
    Use {
        /// Its number
        #[arg(value_parser = clap::value_parser!(i32).range(0..))]
        version: i32,
    },
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List => {
            let answer: ListPoliciesResponse =
                client.selector().list_policies(ListPoliciesRequest {}).await?.into_inner();
            output.show(&answer, |view| table(&answer.policies, view))
        }
        Command::Refit { activate } => {
            let request = RefitPolicyRequest { activate };
            let answer: RefitPolicyResponse = client.selector().refit_policy(request).await?.into_inner();
            output
                .show(&answer, |view| answer.policy.as_ref().map(|each| page(each, view)).unwrap_or_default())
        }
        Command::Use { version } => {
            let request = ActivatePolicyRequest { version };
            let answer: ActivatePolicyResponse =
                client.selector().activate_policy(request).await?.into_inner();
            output.show(&answer, |_| format!("version {version} ranks now"))
        }
    }
}

fn table(policies: &[Policy], view: View) -> String {
    let headings = [
        "VERSION",
        "STATE",
        "MATCH",
        "CAPABILITY",
        "SUCCESS",
        "LATENCY",
        "COST",
        "QUALITY",
        "GAIN",
        "BY",
        "MADE",
    ];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for policy in policies {
        let mut cells =
            vec![number(policy.version.to_string()), toned(word::<State>(policy.state), tone(policy.state))];
        let weights = policy.weights.unwrap_or_default();
        cells.extend(shares(&weights).map(|(_, share)| number(format!("{share:.2}"))));
        cells.push(cell(policy.evaluation.as_ref().map(gain).unwrap_or_default()));
        cells.push(cell(&policy.create_agent_id));
        cells.push(cell(human::moment(policy.create_time.as_ref(), view.now)));
        table.row(cells);
    }
    table.render(view, "the built-in weights rank; fit others with: toolcrib ranking refit")
}

/// One version and how it was judged.
fn page(policy: &Policy, view: View) -> String {
    let state = view.style.paint(&word::<State>(policy.state), tone(policy.state));
    let mut parts = vec![format!("version {}: {state}", policy.version)];
    let weights = policy.weights.unwrap_or_default();
    let mut bars = Table::new(&["SHARE OF", "", ""]).whole(&[0, 1]);
    for (name, share) in shares(&weights) {
        bars.row(vec![cell(name), cell(human::bar(share, 10)), number(format!("{share:.2}"))]);
    }
    parts.push(bars.render(view, ""));
    if let Some(evaluation) = &policy.evaluation {
        parts.push(details(&judged(evaluation), view));
    }
    if policy.state() == State::Candidate {
        let next = format!("next: toolcrib ranking use {}", policy.version);
        parts.push(view.style.paint(&next, Tone::Dim));
    }
    parts.join("\n\n")
}

fn judged(evaluation: &PolicyEvaluation) -> [(&'static str, String); 5] {
    let success = format!(
        "{:.1} % before, {:.1} % with these weights",
        evaluation.reward_before * 100.0,
        evaluation.reward_after * 100.0
    );
    [
        ("judged by", format!("{} selections with an outcome", evaluation.selections)),
        ("success", success),
        ("gain", gain(evaluation)),
        (
            "agreement",
            format!("{:.0} % of the selections have the same first tool", evaluation.agreement * 100.0),
        ),
        ("refused", evaluation.refusal.clone()),
    ]
}

/// In points of a hundred, with the interval that holds it with 95 %.
fn gain(evaluation: &PolicyEvaluation) -> String {
    let gain = evaluation.reward_after - evaluation.reward_before;
    let [gain, low, high] = [gain, evaluation.gain_low, evaluation.gain_high].map(|share| share * 100.0);
    format!("{gain:+.1} ({low:+.1} to {high:+.1})")
}

fn shares(weights: &PolicyWeights) -> [(&'static str, f64); 6] {
    [
        ("match", weights.r#match),
        ("capability", weights.capability),
        ("success", weights.success),
        ("latency", weights.latency),
        ("cost", weights.cost),
        ("quality", weights.quality),
    ]
}

fn tone(state: i32) -> Tone {
    match State::try_from(state) {
        Ok(State::Active) => Tone::Good,
        Ok(State::Candidate) => Tone::Warn,
        Ok(State::Refused) => Tone::Bad,
        Ok(State::Retired | State::Unspecified) | Err(_) => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    fn policy(state: State) -> Policy {
        Policy {
            version: 4,
            state: state.into(),
            weights: Some(PolicyWeights {
                r#match: 0.7,
                capability: 0.5,
                success: 1.0,
                ..PolicyWeights::default()
            }),
            evaluation: Some(PolicyEvaluation {
                selections: 240,
                reward_before: 0.8,
                reward_after: 0.85,
                gain_low: -0.005,
                gain_high: 0.1,
                agreement: 0.6,
                refusal: String::new(),
            }),
            ..Policy::default()
        }
    }

    #[test]
    fn a_version_is_told_with_its_weights_and_its_judgement() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let text = page(&policy(State::Candidate), view);
        for told in [
            "version 4: candidate",
            "match       ███████···  0.70",
            "240 selections",
            "80.0 % before, 85.0 % with these weights",
            "+5.0 (-0.5 to +10.0)",
            "toolcrib ranking use 4",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        let mut refused = policy(State::Refused);
        refused.evaluation.as_mut().unwrap().refusal = "no better than version 3".into();
        let text = page(&refused, view);
        assert!(text.contains("no better than version 3") && !text.contains("ranking use"), "{text}");
        let line = table(&[policy(State::Active)], view);
        assert!(line.contains("active") && line.contains("+5.0"), "{line}");
    }
}
