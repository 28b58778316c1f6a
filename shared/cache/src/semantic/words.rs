//! The words that the matcher knows, all in lower case. A word that is missing makes a match that the guard
//! has to notice. Must never hold a rule: those are in `text.rs`.

use std::{collections::HashSet, sync::LazyLock};

/// A list of words.
pub(super) struct Words(LazyLock<HashSet<&'static str>>);

macro_rules! words {
    ($list:literal) => {
        Words(LazyLock::new(|| $list.split_whitespace().collect()))
    };
}

impl Words {
    /// Whether the word is in the list.
    pub(super) fn contains(&self, word: &str) -> bool {
        self.0.contains(word)
    }
}

/// Words that turn a sentence round, in a few languages. "n't" and "cannot" are read as "not".
pub(super) static NEGATIONS: Words = words!(
    "no not never without none nothing nobody nowhere neither nor except excluding exclude excludes \
     excluded ohne nicht kein keine keinen nie niemals pas jamais sans aucun aucune sin nunca ningún \
     ninguna non unless lacking missing only hardly barely"
);

/// Words that say how much, how many, when or which one: they must be equal and in the same order.
pub(super) static QUANTITIES: Words = words!(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty \
     hundred thousand million billion half third quarter double twice first second last next previous \
     current january february march april may june july august september october november december jan \
     feb mar apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday \
     sunday today tomorrow yesterday tonight now hourly daily weekly monthly quarterly yearly annual \
     seconds minute minutes hour hours day days week weeks month months year years morning evening \
     night noon midnight am pm ad bc"
);

/// Words with an opposite that is used much alike.
pub(super) static OPPOSITES: Words = words!(
    "increase increases increased increasing decrease decreases decreased decreasing rise fall up down \
     high higher highest low lower lowest max maximum min minimum most least more less fewer best worst \
     better worse above below over under before after buy sell buying selling import export imports \
     exports open close opening closing start stop end begin off out into enable disable enabled \
     disabled add remove create delete install uninstall encrypt decrypt encode decode upload download \
     allow deny allowed denied include includes including included legal illegal possible impossible \
     male female north south east west left right hot cold old new oldest newest latest earliest early \
     late big small largest smallest longest shortest fast slow win lose won lost pro con pros cons \
     advantages disadvantages true false yes all any some every each valid invalid love hate pass fail \
     success failure succeeded failed ascending descending asc desc public private internal external \
     input output read write sender receiver parent child debit credit gain loss profit birth death \
     born died"
);

/// Words between which the order tells who does what to whom.
pub(super) static DIRECTIONS: Words = words!(
    "from to into onto before after than then versus vs over under minus divided by until till since \
     between against through via towards and or if who that of for named called"
);

/// Words that add nothing to a question. None of them may stand in a list that must be equal.
pub(super) static FILLERS: Words = words!(
    "a an the is are was be what whats s please tell me give show can could would you i want need know \
     like of for at it do does did how about there this that my kindly thanks hi hello find get look \
     which will us we to"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filler_is_a_word_that_must_be_equal() {
        for list in [&NEGATIONS, &QUANTITIES, &OPPOSITES] {
            assert!(list.0.is_disjoint(&FILLERS.0), "{:?}", list.0.intersection(&FILLERS.0));
            assert!(list.0.len() > 20);
        }
    }
}
