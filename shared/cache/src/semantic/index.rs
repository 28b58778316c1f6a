//! The texts whose answers are in the cache. Must never grow beyond its bound: the oldest go first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Question, text::Text};
use crate::Key;

/// Texts of all tools: 4 KiB each for the vector, and about 50 bytes a word.
const MAX_POINTS: usize = 4_096;
/// Texts that are compared with one another: same tool, scope and other arguments.
const MAX_GROUP: usize = 1_024;

/// One answered text.
#[derive(Debug)]
pub(super) struct Point {
    number: u64,
    pub(super) text: Text,
    pub(super) key: Key,
}

/// Texts in groups, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: HashMap<String, VecDeque<Arc<Point>>>,
    /// Groups in the order of their points; a number whose point is gone is passed over.
    order: VecDeque<(u64, String)>,
    points: usize,
    next_number: u64,
}

impl Index {
    /// Adds the text of a question whose answer has been put.
    pub(super) fn add(&mut self, question: &Question) {
        let number = self.next_number;
        self.next_number += 1;
        self.remove(&question.group, &question.key);
        let point = Point { number, text: question.text.clone(), key: question.key.clone() };
        let group = self.groups.entry(question.group.clone()).or_default();
        group.push_back(Arc::new(point));
        self.points += 1;
        if group.len() > MAX_GROUP {
            group.pop_front();
            self.points -= 1;
        }
        self.order.push_back((number, question.group.clone()));
        while self.points > MAX_POINTS || self.order.len() > 2 * MAX_POINTS {
            self.remove_oldest();
        }
    }

    /// The texts that a question may be compared with.
    pub(super) fn group(&self, group: &str) -> Vec<Arc<Point>> {
        self.groups.get(group).map(|points| points.iter().cloned().collect()).unwrap_or_default()
    }

    /// Takes out a text whose answer is gone.
    pub(super) fn remove(&mut self, group: &str, key: &Key) {
        let Some(points) = self.groups.get_mut(group) else { return };
        let before = points.len();
        points.retain(|point| point.key != *key);
        self.points -= before - points.len();
        if points.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Takes out every text of a team.
    pub(super) fn remove_team(&mut self, team: &str) {
        self.groups.retain(|_, points| {
            points.retain(|point| point.key.team != team);
            !points.is_empty()
        });
        self.points = self.groups.values().map(VecDeque::len).sum();
    }

    fn remove_oldest(&mut self) {
        let Some((number, group)) = self.order.pop_front() else { return };
        let Some(points) = self.groups.get_mut(&group) else { return };
        if points.front().is_some_and(|point| point.number == number) {
            points.pop_front();
            self.points -= 1;
        }
        if points.is_empty() {
            self.groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Semantic;
    use serde_json::json;

    fn question(text: &str, group: usize) -> Question {
        let arguments = json!({"q": text, "group": group});
        let settings = Semantic { field: "q".into(), min_similarity: 0.8, max_error: 0.1, shadow_rate: 0.1 };
        let key = Key::of("team", "tool", "digest", "", &arguments).unwrap();
        Question::of(&key, &arguments, &settings).unwrap()
    }

    #[test]
    fn both_bounds_hold_and_the_newest_stay() {
        let mut index = Index::default();
        for number in 0..=MAX_GROUP {
            index.add(&question(&format!("text {number}"), 0));
        }
        let group = question("text 0", 0).group;
        assert_eq!(index.group(&group).len(), MAX_GROUP);
        assert_eq!(index.group(&group)[0].key, question("text 1", 0).key);
        for number in 0..2 * MAX_POINTS {
            index.add(&question("text", number));
        }
        assert_eq!(index.points, MAX_POINTS);
        assert_eq!(index.groups.values().map(VecDeque::len).sum::<usize>(), MAX_POINTS);
        assert!(index.order.len() <= 2 * MAX_POINTS);
        assert!(index.groups.contains_key(&question("text", 2 * MAX_POINTS - 1).group));
    }

    #[test]
    fn the_same_text_again_takes_no_second_place() {
        let mut index = Index::default();
        for _ in 0..3 * MAX_POINTS {
            index.add(&question("text", 0));
        }
        assert_eq!(index.points, 1);
        assert!(index.order.len() <= 2 * MAX_POINTS);
        index.remove(&question("text", 0).group, &question("text", 0).key);
        assert_eq!((index.points, index.groups.len()), (0, 0));
    }
}
