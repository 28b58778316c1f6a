//! The inverted index over one team's tools: finds and weighs them by the words of a task.
//!
//! It follows a snapshot of the catalog by its differences: a changed tool costs its own words, never a
//! rebuild. It decides nothing but lexical fit.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::rpc::Call;
use catalog::{Catalog, TeamTools};
use proto::registry::v1::{Tool, ToolDefinition};

use crate::{
    Error,
    entry::{Entry, weigh},
    words::{Word, words},
};

/// How soon more of the same word counts less (`k1` of BM25).
const SATURATION: f32 = 1.2;
/// Most words of one task that are looked up.
const MAX_QUERY_WORDS: usize = 256;
/// Longest wait for the first copy of the catalog.
const PATIENCE: Duration = Duration::from_secs(2);
/// The part of the caller's time that may pass in waiting for it: a quarter.
const SHARE_OF_TIME: u32 = 4;

/// Bytes that an entry of a map or a list takes beside what it holds.
const BESIDE: usize = 48;

/// The words of a task, each once.
#[derive(Debug, Default)]
pub(crate) struct Query(pub Vec<Word>);

impl Query {
    pub(crate) fn new(task: &str) -> Self {
        let mut seen = std::collections::HashSet::new();
        Self(words(task).filter(|word| seen.insert(word.stem.clone())).take(MAX_QUERY_WORDS).collect())
    }
}

#[derive(Debug, Clone)]
struct Posting {
    slot: u32,
    weight: f32,
}

/// Some tools of an index, by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Among {
    is_in: Vec<bool>,
    count: usize,
}

impl Among {
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.is_in.get(slot).is_some_and(|is_in| *is_in)
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        self.count -= usize::from(std::mem::replace(&mut self.is_in[slot], false));
    }

    /// How many of these tools have a term.
    fn having(&self, postings: &[Posting]) -> usize {
        postings.iter().filter(|posting| self.is_in[posting.slot as usize]).count()
    }

    /// Inverse document frequency of a term among these tools.
    fn rarity(&self, postings: &[Posting]) -> f32 {
        #[allow(clippy::cast_precision_loss, reason = "a team has far fewer than 2^23 tools")]
        let (all, having) = (self.count as f32, self.having(postings) as f32);
        (1.0 + (all - having + 0.5) / (having + 0.5)).max(1.0).ln()
    }
}

/// The index over one team's tools. A tool keeps its slot while it is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    source: Arc<TeamTools>,
    entries: Vec<Option<Entry>>,
    slots: HashMap<String, u32>,
    free: Vec<u32>,
    terms: HashMap<String, u32>,
    postings: Vec<Vec<Posting>>,
}

impl Index {
    /// Every tool with its slot.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }

    pub(crate) fn entry(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(slot)?.as_ref()
    }

    /// The slot of the tool of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.slots.get(name).map(|slot| *slot as usize)
    }

    /// Bytes that it takes in memory, about: words, weights and what the tools themselves say.
    pub(crate) fn bytes(&self) -> usize {
        let words: usize = self.terms.keys().map(|term| term.len() + BESIDE).sum();
        let weights: usize =
            self.postings.iter().map(|list| list.capacity() * size_of::<Posting>() + BESIDE).sum();
        let of = |entry: &Entry| {
            let told =
                entry.tool.definition.as_ref().map_or(0, |definition| {
                    definition.description.len() + definition.input_schema_json.len()
                });
            size_of::<Entry>() + 2 * entry.name.len() + told + entry.terms.len() * size_of::<u32>() + BESIDE
        };
        words + weights + self.entries().map(|(_, entry)| of(entry)).sum::<usize>()
    }

    /// These slots, to be scored among each other.
    pub(crate) fn among(&self, slots: &[usize]) -> Among {
        let mut among = Among { is_in: vec![false; self.entries.len()], count: slots.len() };
        for slot in slots {
            among.is_in[*slot] = true;
        }
        among
    }

    /// How well each of these slots' tools fits these words: BM25F, 0 where no word occurs. How rare a word is counts
    /// among these tools alone: what may not be offered moves no score.
    pub(crate) fn score(&self, query: &Query, among: &Among) -> Vec<f32> {
        let mut scores = vec![0.0; self.entries.len()];
        for term in query.0.iter().filter_map(|word| self.terms.get(&word.stem)) {
            let postings = &self.postings[*term as usize];
            let rarity = among.rarity(postings) * (SATURATION + 1.0);
            for posting in postings {
                scores[posting.slot as usize] += rarity * posting.weight / (SATURATION + posting.weight);
            }
        }
        scores
    }

    /// The share of its name that each slot's tool has in these words, rare words counting more: 0 to 1.
    pub(crate) fn name_coverage(&self, query: &Query, among: &Among) -> Vec<f32> {
        let asked: HashSet<u32> =
            query.0.iter().filter_map(|word| self.terms.get(&word.stem).copied()).collect();
        let mut found = vec![0.0; self.entries.len()];
        for term in asked {
            let postings = &self.postings[term as usize];
            let rarity = among.rarity(postings);
            for posting in postings {
                let slot = posting.slot as usize;
                let named = |entry: &Entry| entry.name_terms.binary_search(&term).is_ok();
                if self.entry(slot).is_some_and(named) {
                    found[slot] += rarity;
                }
            }
        }
        let mut known = HashMap::new();
        for (slot, found) in found.iter_mut().enumerate().filter(|(_, found)| **found > 0.0) {
            let Some(entry) = self.entry(slot) else { continue };
            *found = (*found / self.weight_of(&entry.name_terms, among, &mut known)).min(1.0);
        }
        found
    }

    /// What these terms weigh together.
    fn weight_of(&self, terms: &[u32], among: &Among, known: &mut HashMap<u32, f32>) -> f32 {
        let weigh = |term: &u32| among.rarity(&self.postings[*term as usize]);
        terms.iter().map(|term| *known.entry(*term).or_insert_with(|| weigh(term))).sum()
    }

    /// The words of the task that a tool has, the rarest among these tools first.
    pub(crate) fn matched<'a>(&self, query: &'a Query, entry: &Entry, among: &Among) -> Vec<&'a str> {
        let known = |word: &'a Word| {
            let term = *self.terms.get(&word.stem)?;
            entry.terms.binary_search(&term).ok()?;
            Some((among.having(&self.postings[term as usize]), word.text.as_str()))
        };
        let mut found: Vec<_> = query.0.iter().filter_map(known).collect();
        found.sort_by_key(|(tools, _)| *tools);
        found.into_iter().map(|(_, word)| word).collect()
    }

    /// Takes over what differs in a newer snapshot.
    fn update(&mut self, source: &Arc<TeamTools>) {
        let gone: Vec<String> =
            self.slots.keys().filter(|name| !source.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
        for (name, tool) in source.iter() {
            let Some(definition) = &tool.definition else { continue };
            if !self.refresh(name, tool) {
                self.remove(name);
                self.insert(tool, definition);
            }
        }
        let unused = self.postings.iter().filter(|postings| postings.is_empty()).count();
        if 2 * unused > self.postings.len() {
            self.forget_unused();
        }
        self.source = Arc::clone(source);
    }

    /// Takes over a tool whose words are the same; `false` when it must be indexed.
    fn refresh(&mut self, name: &str, tool: &Arc<Tool>) -> bool {
        let slot = self.slots.get(name).map(|slot| *slot as usize);
        let Some(entry) = slot.and_then(|slot| self.entries[slot].as_mut()) else { return false };
        if Arc::ptr_eq(&entry.tool, tool) {
            return true;
        }
        if entry.tool.digest != tool.digest || entry.tool.definition != tool.definition {
            return false;
        }
        entry.status = tool.status();
        entry.server = tool.server_state();
        entry.tool = Arc::clone(tool);
        true
    }

    fn insert(&mut self, tool: &Arc<Tool>, definition: &ToolDefinition) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("a team has fewer than 2^32 tools")
        });
        let mut terms: Vec<u32> = weigh(definition)
            .into_iter()
            .map(|(stem, weight)| {
                let term = self.term(stem);
                self.postings[term as usize].push(Posting { slot, weight });
                term
            })
            .collect();
        terms.sort_unstable();
        let mut name_terms: Vec<u32> = words(&definition.name).map(|word| self.term(word.stem)).collect();
        name_terms.sort_unstable();
        name_terms.dedup();
        self.entries[slot as usize] = Some(Entry::new(Arc::clone(tool), definition, terms, name_terms));
        self.slots.insert(definition.name.clone(), slot);
    }

    fn term(&mut self, stem: String) -> u32 {
        *self.terms.entry(stem).or_insert_with(|| {
            self.postings.push(Vec::new());
            u32::try_from(self.postings.len() - 1).expect("a team uses fewer than 2^32 words")
        })
    }

    fn remove(&mut self, name: &str) {
        let Some(slot) = self.slots.remove(name) else { return };
        for term in self.entries[slot as usize].take().map(|entry| entry.terms).unwrap_or_default() {
            self.postings[term as usize].retain(|posting| posting.slot != slot);
        }
        self.free.push(slot);
    }

    /// Forgets the words that no tool has any more. The others get new numbers in the same order.
    fn forget_unused(&mut self) {
        let mut numbers: Vec<Option<u32>> = Vec::with_capacity(self.postings.len());
        let mut next = 0;
        for postings in &self.postings {
            numbers.push((!postings.is_empty()).then_some(next));
            next += u32::from(!postings.is_empty());
        }
        let number = |term: &u32| numbers[*term as usize];
        self.postings.retain(|postings| !postings.is_empty());
        self.postings.shrink_to_fit();
        let terms = std::mem::take(&mut self.terms).into_iter();
        self.terms = terms.filter_map(|(stem, term)| Some((stem, number(&term)?))).collect();
        for entry in self.entries.iter_mut().flatten() {
            for terms in [&mut entry.terms, &mut entry.name_terms] {
                *terms = terms.iter().filter_map(number).collect();
            }
        }
    }
}

/// The indexes of every team that asked, each as new as the catalog when it is given out.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    catalog: Catalog,
    teams: Arc<Mutex<HashMap<String, Team>>>,
}

/// One team's index, locked while it follows the catalog.
type Team = Arc<Mutex<Arc<Index>>>;

impl Indexes {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self { catalog, teams: Arc::default() }
    }

    /// The tools that the indexes are made of.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The index of the caller's team. Refused while the tools are not read from the registry: a team whose tools are not
    /// known yet must not be told that it has none.
    pub(crate) async fn of(&self, call: &Call) -> Result<Arc<Index>, Error> {
        let patience = PATIENCE.min(call.time_left() / SHARE_OF_TIME);
        if !self.catalog.wait_until_loaded(patience).await {
            return Err(Error::NotLoaded);
        }
        Ok(self.team(&call.caller.team).await)
    }

    /// The team's index, of the tools that are known so far. Words are indexed away from the threads that serve calls.
    pub(crate) async fn team(&self, name: &str) -> Arc<Index> {
        let source = self.catalog.team(name);
        let team = {
            let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
            teams.entry(name.to_owned()).or_default().clone()
        };
        let current = team.try_lock().ok().map(|index| Arc::clone(&index));
        if let Some(index) = current.filter(|index| Arc::ptr_eq(&index.source, &source)) {
            return index;
        }
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        let follow = move || follow(&team, &catalog, &name);
        match tokio::task::spawn_blocking(follow).await {
            Ok(index) => index,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

fn follow(team: &Mutex<Arc<Index>>, catalog: &Catalog, name: &str) -> Arc<Index> {
    let mut index = team.lock().unwrap_or_else(PoisonError::into_inner);
    // Read under the lock, so that no call takes the index back to an older snapshot.
    let source = catalog.team(name);
    if !Arc::ptr_eq(&index.source, &source) {
        Arc::make_mut(&mut index).update(&source);
    }
    Arc::clone(&index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, description: &str) -> (String, Arc<Tool>) {
        let definition = ToolDefinition {
            name: name.into(),
            description: description.into(),
            ..ToolDefinition::default()
        };
        (name.into(), Arc::new(Tool { definition: Some(definition), ..Tool::default() }))
    }

    fn all(index: &Index) -> Among {
        index.among(&index.entries().map(|(slot, _)| slot).collect::<Vec<_>>())
    }

    fn best(index: &Index, task: &str) -> Option<String> {
        let scores = index.score(&Query::new(task), &all(index));
        let fitting = index.entries().filter(|(slot, _)| scores[*slot] > 0.0);
        let best = fitting.max_by(|(left, _), (right, _)| scores[*left].total_cmp(&scores[*right]));
        best.map(|(_, entry)| entry.name.clone())
    }

    #[test]
    fn a_followed_index_is_the_one_that_would_be_built_anew() {
        let mut followed = Index::default();
        let first: TeamTools = [tool("alpha", "reads mail"), tool("beta", "sends mail")].into();
        followed.update(&Arc::new(first.clone()));
        let mut second = first;
        second.remove("alpha");
        second.extend([tool("beta", "paints walls"), tool("gamma", "reads maps"), tool("delta", "cooks")]);
        let second = Arc::new(second);
        followed.update(&second);
        let mut fresh = Index::default();
        fresh.update(&second);
        for task in ["send mail", "read", "paint a wall", "map", "alpha", "cook"] {
            assert_eq!(best(&followed, task), best(&fresh, task), "{task}");
            let sum = |index: &Index| index.score(&Query::new(task), &all(index)).iter().sum::<f32>();
            assert!((sum(&followed) - sum(&fresh)).abs() < 1e-6, "{task}");
        }
        assert_eq!(best(&followed, "mail"), None);
    }

    #[test]
    fn a_tool_whose_words_are_the_same_is_not_indexed_again() {
        let mut index = Index::default();
        let (name, active) = tool("alpha", "reads mail");
        index.update(&Arc::new([(name.clone(), active.clone())].into()));
        let disabled = Arc::new(Tool { status: 3, revision: 9, ..(*active).clone() });
        assert!(index.refresh(&name, &disabled));
        assert_eq!(index.entries().next().unwrap().1.tool.revision, 9);
        assert!(!index.refresh(&name, &tool("alpha", "paints").1));
    }

    #[test]
    fn how_rare_a_word_is_counts_among_the_tools_that_are_scored() {
        let mut index = Index::default();
        let tools: TeamTools = [tool("a", "data"), tool("b", "data maps"), tool("c", "data maps")].into();
        index.update(&Arc::new(tools));
        let slot = index.find("b").unwrap();
        let score = |names: &[&str]| {
            let slots: Vec<usize> = names.iter().map(|name| index.find(name).unwrap()).collect();
            index.score(&Query::new("maps"), &index.among(&slots))[slot]
        };
        assert!(score(&["a", "b"]) > score(&["b", "c"]));
    }

    #[test]
    fn of_a_name_its_rare_words_count_most() {
        let mut index = Index::default();
        let tools: TeamTools =
            [tool("mail_send", "sends"), tool("mail_read", "reads"), tool("mail_count", "counts")].into();
        index.update(&Arc::new(tools));
        let slot = index.find("mail_send").unwrap();
        let share = |task: &str| index.name_coverage(&Query::new(task), &all(&index))[slot];
        assert!(
            share("send it") > 0.5 && share("any mail") < 0.5,
            "{} {}",
            share("send it"),
            share("any mail")
        );
        assert!((share("send a mail") - 1.0).abs() < 1e-6 && share("sends by post") > 0.5);
        assert!(share("paint a wall").abs() < f32::EPSILON);
    }

    #[test]
    fn a_rare_word_decides_over_a_common_one() {
        let mut index = Index::default();
        let tools: TeamTools =
            [tool("a", "data tables"), tool("b", "data charts"), tool("c", "data maps")].into();
        index.update(&Arc::new(tools));
        assert_eq!(best(&index, "chart my data").as_deref(), Some("b"));
        let (_, entry) = index.entries().find(|(_, entry)| entry.name == "b").unwrap();
        assert_eq!(index.matched(&Query::new("data chart"), entry, &all(&index)), ["chart", "data"]);
    }

    #[test]
    fn words_are_named_by_how_rare_they_are_among_the_tools_that_may_be_offered() {
        let mut index = Index::default();
        let tools: TeamTools =
            [tool("a", "data charts"), tool("b", "data"), tool("c", "charts"), tool("d", "charts")].into();
        index.update(&Arc::new(tools));
        let named = |names: &[&str]| {
            let slots: Vec<usize> = names.iter().map(|name| index.find(name).unwrap()).collect();
            index.matched(&Query::new("chart data"), index.entry(slots[0]).unwrap(), &index.among(&slots))
                == ["chart", "data"]
        };
        assert!(named(&["a", "b"]) && !named(&["a", "b", "c", "d"]));
    }

    #[test]
    fn words_that_no_tool_has_any_more_are_forgotten() {
        let mut index = Index::default();
        let team = |round: usize| -> Arc<TeamTools> {
            let said = format!("reads mail, as of fresh{round} made{round} told{round}");
            Arc::new([tool("alpha", &said), tool("beta", "paints walls")].into())
        };
        for round in 0..100 {
            index.update(&team(round));
        }
        let mut fresh = Index::default();
        fresh.update(&team(99));
        assert!(index.postings.len() <= 2 * fresh.postings.len(), "{} words", index.postings.len());
        assert_eq!(index.terms.len(), index.postings.len());
        for task in ["mail", "fresh99", "paint the wall", "alpha", "fresh1"] {
            assert_eq!(best(&index, task), best(&fresh, task), "{task}");
            let named =
                |index: &Index| index.name_coverage(&Query::new(task), &all(index)).iter().sum::<f32>();
            assert!((named(&index) - named(&fresh)).abs() < 1e-6, "{task}");
        }
    }
}
