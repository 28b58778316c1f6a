//! Splits a task into its clauses, so that each of several intents finds its tool. Never changes a word.

/// Words that join two clauses.
const JOINS: &[&str] = &["additionally", "also", "and", "but", "plus", "then", "while"];
/// Fewest words of a clause that says something.
const MIN_WORDS: usize = 3;
/// Most clauses: each costs an embedding.
pub(crate) const MAX_CLAUSES: usize = 8;

/// The clauses of a task, in order, at most [`MAX_CLAUSES`]; none when it has but one.
pub(crate) fn clauses(task: &str) -> Vec<&str> {
    let (mut found, mut open) = (Vec::new(), Open::default());
    for word in task.split_whitespace() {
        let at = word.as_ptr() as usize - task.as_ptr() as usize;
        let bare = word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase();
        if JOINS.contains(&bare.as_str()) {
            found.extend(open.close(task));
            continue;
        }
        let kept = word.trim_end_matches([',', '.', ';', '!', '?', ':']);
        open.add(at, at + kept.len());
        if kept.len() < word.len() {
            found.extend(open.close(task));
        }
    }
    found.extend(open.close(task));
    found.truncate(MAX_CLAUSES);
    if found.len() == 1 && found[0].split_whitespace().count() + 1 >= task.split_whitespace().count() {
        found.clear();
    }
    found
}

/// The clause being read.
#[derive(Default)]
struct Open {
    start: usize,
    end: usize,
    words: usize,
}

impl Open {
    fn add(&mut self, start: usize, end: usize) {
        if self.words == 0 {
            self.start = start;
        }
        self.end = end;
        self.words += 1;
    }

    fn close<'a>(&mut self, task: &'a str) -> Option<&'a str> {
        let words = std::mem::take(&mut self.words);
        (words >= MIN_WORDS).then(|| &task[self.start..self.end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_two_intents_has_two_clauses() {
        assert_eq!(
            clauses("Get the weather in Zürich, and then mail it to my boss."),
            ["Get the weather in Zürich", "mail it to my boss"]
        );
    }

    #[test]
    fn a_task_of_one_intent_has_none() {
        for task in ["", "   ", "sort numbers", "Resize this picture to 100 x 80.", "and, then; also!"] {
            assert!(clauses(task).is_empty(), "{task}");
        }
    }

    #[test]
    fn what_is_too_short_to_say_something_is_no_clause() {
        assert_eq!(clauses("Please, book a table for two, thanks!"), ["book a table for two"]);
    }

    #[test]
    fn figures_and_names_are_not_cut() {
        assert_eq!(
            clauses("convert 3.5 miles please; open data.world now please"),
            ["convert 3.5 miles please", "open data.world now please"]
        );
    }

    #[test]
    fn a_flood_of_clauses_is_bounded() {
        assert_eq!(clauses(&"do this thing. ".repeat(5_000)).len(), MAX_CLAUSES);
    }
}
