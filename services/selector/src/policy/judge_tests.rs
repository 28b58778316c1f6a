//! Fit and judgement on logs of which the truth is known: who succeeds is drawn by a known chance.

use chrono::{DateTime, TimeDelta};

use super::*;
use crate::policy::{SCORES, fit::fit, log::fair};

const BUILT_IN: Weights =
    Weights { matching: 0.6, capability: 0.5, success: 0.6, latency: 0.15, cost: 0.1, quality: 0.15 };

/// Which tool is put first.
#[derive(Clone, Copy, PartialEq)]
enum Logging {
    /// Any, as likely as the others.
    Random,
    /// The best by the built-in weights; agents call the first 70 %, the second 20 %, the third 10 % of the time.
    Ranked,
}

/// A log of so many selections of three tools, whose calls succeed by a chance that their scores tell.
fn log(count: usize, seed: u64, logging: Logging, chance: fn(&Offer) -> f64) -> Vec<Sample> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|number| {
            let offers: Vec<Offer> = (0..3).map(|tool| offer(tool, &mut random)).collect();
            let create_time = DateTime::UNIX_EPOCH + TimeDelta::minutes(i64::try_from(number).unwrap());
            let (agent_id, propensity) = (format!("agent-{}", number % 3), 1.0);
            let sample = Sample { agent_id, create_time, offers, followed: 0, succeeded: false, propensity };
            let (order, followed, propensity) = match logging {
                Logging::Random => {
                    let first = random.random_range(0..3);
                    (vec![first, (first + 1) % 3, (first + 2) % 3], 0, 1.0 / 3.0)
                }
                Logging::Ranked => {
                    let place = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2][random.random_range(0..10)];
                    (sample.order(&BUILT_IN), place, 1.0)
                }
            };
            let offers: Vec<Offer> = order.into_iter().map(|index| sample.offers[index].clone()).collect();
            let succeeded = random.random::<f64>() < chance(&offers[followed]);
            Sample { offers, followed, succeeded, propensity, ..sample }
        })
        .collect()
}

fn offer(tool: usize, random: &mut StdRng) -> Offer {
    let [semantic, success, latency, cost, quality]: [f64; 5] = std::array::from_fn(|_| random.random());
    let capability = if random.random() { 1.0 } else { 0.5 };
    // All of them contend.
    let semantic = 0.3 + 0.7 * semantic;
    Offer { name: format!("tool-{tool}"), capability, semantic, success, latency, cost, quality }
}

/// Fits to the older 70 % and judges by the others.
fn refit(samples: &[Sample]) -> (Weights, Evaluation, usize) {
    let cut = samples.len() * 7 / 10;
    let weights = fit(&samples[..cut], &BUILT_IN);
    let evaluation = judge((&samples[..cut], &samples[cut..]), &BUILT_IN, &weights, 1);
    (weights, evaluation, cut)
}

/// What share of the tasks would have succeeded, had the tool that these weights put first been called.
fn truth(samples: &[Sample], weights: &Weights, chance: fn(&Offer) -> f64) -> f64 {
    let first = samples.iter().map(|sample| chance(&sample.offers[sample.order(weights)[0]]));
    first.sum::<f64>() / samples.len() as f64
}

fn is_valid(weights: &Weights) -> bool {
    let parts = [weights.success, weights.latency, weights.cost, weights.quality];
    let in_bounds = |share: &f64| (0.0..=1.0).contains(share);
    (parts.iter().sum::<f64>() - 1.0).abs() < 1e-9
        && (weights.coefficients().iter().sum::<f64>() - 1.0).abs() < 1e-9
        && parts.iter().chain([&weights.matching, &weights.capability]).all(in_bounds)
}

#[test]
fn where_one_score_tells_success_the_weights_move_there_and_the_estimate_is_near_the_truth() {
    type Chance = fn(&Offer) -> f64;
    let chances: [(usize, Chance); 3] = [
        (1, |offer| 0.1 + 0.8 * offer.semantic),
        (2, |offer| 0.1 + 0.8 * offer.success),
        (5, |offer| 0.1 + 0.8 * offer.quality),
    ];
    for (score, chance) in chances {
        let samples = log(3_000, 10 + score as u64, Logging::Random, chance);
        let (weights, evaluation, cut) = refit(&samples);
        assert!(is_valid(&weights), "{weights:?}");
        let (before, after) = (BUILT_IN.coefficients(), weights.coefficients());
        assert!(after[score] > before[score] + 0.1, "score {score}: {before:?} to {after:?}");
        let largest = (0..SCORES).max_by(|left, right| after[*left].total_cmp(&after[*right])).unwrap();
        assert_eq!(largest, score, "{after:?}");
        assert_eq!(evaluation.refusal, "", "{evaluation:?}");
        assert!(evaluation.gain_low > 0.0 && evaluation.agreement < 1.0, "{evaluation:?}");
        let newer = &samples[cut..];
        let (true_before, true_after) = (truth(newer, &BUILT_IN, chance), truth(newer, &weights, chance));
        assert!(true_after > true_before + 0.03, "it is better in truth: {true_before} to {true_after}");
        assert!((evaluation.reward_before - true_before).abs() < 0.08, "{evaluation:?}, {true_before}");
        assert!((evaluation.reward_after - true_after).abs() < 0.08, "{evaluation:?}, {true_after}");
        let gain = true_after - true_before;
        let (low, high) = (evaluation.gain_low - 0.03, evaluation.gain_high + 0.03);
        assert!(low <= gain && gain <= high, "{evaluation:?}, {gain}");
    }
}

#[test]
fn whatever_the_log_says_success_counts_twice_what_latency_and_cost_do() {
    let chance: fn(&Offer) -> f64 = |offer| 0.1 + 0.8 * offer.latency;
    let weights = fit(&log(3_000, 9, Logging::Random, chance), &BUILT_IN);
    assert!(is_valid(&weights), "{weights:?}");
    let dear = weights.latency + weights.cost;
    assert!(weights.success >= 2.0 * dear - 1e-9 && weights.latency > BUILT_IN.latency, "{weights:?}");
}

#[test]
fn the_agents_own_choice_of_another_place_is_enough_to_judge_by() {
    let chance: fn(&Offer) -> f64 = |offer| 0.1 + 0.8 * offer.semantic;
    let (weights, evaluation, _) = refit(&log(4_000, 3, Logging::Ranked, chance));
    assert!(weights.coefficients()[1] > BUILT_IN.coefficients()[1] + 0.1, "{weights:?}");
    assert_eq!(evaluation.refusal, "", "{evaluation:?}");
}

#[test]
fn a_log_of_noise_is_refused() {
    let refused = (0..10).filter(|seed| {
        let (weights, evaluation, _) = refit(&log(600, 100 + seed, Logging::Random, |_| 0.5));
        assert!(is_valid(&weights), "{weights:?}");
        !evaluation.refusal.is_empty()
    });
    // One in forty may look like a gain by chance alone.
    assert!(refused.count() >= 9);
    let (_, evaluation, _) = refit(&log(600, 100, Logging::Random, |_| 0.5));
    assert!(evaluation.refusal.contains("gain"), "{evaluation:?}");
}

#[test]
fn weights_that_are_worse_are_refused_with_the_reason() {
    let chance: fn(&Offer) -> f64 = |offer| 1.2 * offer.semantic - 0.3;
    let samples = log(3_000, 4, Logging::Random, chance);
    let worse =
        Weights { matching: 0.3, capability: 0.9, success: 0.0, latency: 0.0, cost: 1.0, quality: 0.0 };
    let evaluation = judge((&samples[..2_100], &samples[2_100..]), &BUILT_IN, &worse, 1);
    assert!(evaluation.refusal.starts_with("no gain: -"), "{evaluation:?}");
    assert!(evaluation.gain_high < 0.0, "{evaluation:?}");
    let same = judge((&samples[..2_100], &samples[2_100..]), &BUILT_IN, &BUILT_IN, 1);
    assert!((same.agreement - 1.0).abs() < 1e-9 && !same.refusal.is_empty(), "{same:?}");
}

#[test]
fn what_does_not_vary_in_the_log_keeps_its_share() {
    let chance: fn(&Offer) -> f64 = |offer| 0.1 + 0.8 * offer.success;
    let mut samples = log(1_500, 5, Logging::Random, chance);
    for offer in samples.iter_mut().flat_map(|sample| &mut sample.offers) {
        (offer.capability, offer.semantic) = (0.5, 0.7);
    }
    let weights = fit(&samples, &BUILT_IN);
    assert!((weights.capability - BUILT_IN.capability).abs() < 1e-9, "{weights:?}");
    assert!(weights.success > 0.8 && weights.matching >= 0.3, "{weights:?}");
    let always = Sample { succeeded: true, ..samples[0].clone() };
    assert!(is_valid(&fit(&vec![always; 200], &BUILT_IN)));
    assert_eq!(
        fit(&[], &BUILT_IN).coefficients().map(|it| format!("{it:.9}")),
        BUILT_IN.coefficients().map(|it| format!("{it:.9}"))
    );
}

#[test]
fn the_same_log_is_judged_the_same() {
    let samples = log(400, 6, Logging::Random, |offer| offer.semantic);
    assert_eq!(refit(&samples), refit(&samples));
}

#[test]
fn no_agent_has_more_to_say_than_all_the_others_together_and_the_newest_of_it_is_kept() {
    let mut samples = log(300, 7, Logging::Random, |_| 0.5);
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.agent_id = if number < 280 { "loud".into() } else { format!("quiet-{}", number % 2) };
    }
    let kept = fair(samples.clone());
    let loud: Vec<_> = kept.iter().filter(|sample| sample.agent_id == "loud").collect();
    assert_eq!((kept.len(), loud.len()), (40, 20));
    assert_eq!(loud[0].create_time, samples[260].create_time);
    samples.truncate(280);
    assert_eq!(fair(samples).len(), 280, "it is alone");
}

#[test]
fn a_selection_whose_call_was_not_offered_or_whose_scores_are_no_numbers_is_no_sample() {
    let mut random = StdRng::seed_from_u64(8);
    let offers = vec![offer(0, &mut random), offer(1, &mut random)];
    let of = |offers: &[Offer], tool: &str, propensity: f64| {
        let call = ("agent".to_owned(), DateTime::UNIX_EPOCH);
        Sample::new(call, offers.to_vec(), (tool, true), propensity)
    };
    assert_eq!(of(&offers, "tool-1", 0.5).unwrap().followed, 1);
    assert_eq!(of(&offers, "another", 0.5), None);
    assert_eq!(of(&offers, "tool-1", 0.0), None);
    let broken = [Offer { cost: f64::NAN, ..offers[0].clone() }];
    assert_eq!(of(&broken, "tool-0", 0.5), None);
}
