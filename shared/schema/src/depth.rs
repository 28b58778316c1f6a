//! Finds where JSON nests too deep, before anything recursive touches it. Builds nothing.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::{
    Fault, MAX_DEPTH,
    fault::{brief, step},
};

/// Whether the text is JSON of bearable depth.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    let mut walk = Walk { path: Vec::new(), is_too_deep: false };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Level { walk: &mut walk, depth: 0 }.deserialize(&mut reader).and_then(|()| reader.end());
    match read {
        Ok(()) => Ok(()),
        Err(_) if walk.is_too_deep => {
            let message = format!("nests deeper than {MAX_DEPTH} levels, which are the most that are taken");
            Err(Fault::at(walk.path.concat(), message))
        }
        Err(error) => Err(Fault::whole(format!("is not JSON: {}", brief(&error.to_string())))),
    }
}

struct Walk {
    /// The way to where reading stands, or stopped.
    path: Vec<String>,
    is_too_deep: bool,
}

struct Level<'a> {
    walk: &'a mut Walk,
    /// Arrays and objects around this place.
    depth: usize,
}

impl Level<'_> {
    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.walk.is_too_deep = true;
            return Err(E::custom("too deep"));
        }
        Ok(())
    }

    fn inner(&mut self) -> Level<'_> {
        Level { walk: self.walk, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        for index in 0_usize.. {
            self.walk.path.push(format!("/{index}"));
            let found = items.next_element_seed(self.inner())?;
            self.walk.path.pop();
            if found.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.enter()?;
        while let Some(name) = members.next_key::<String>()? {
            self.walk.path.push(step(&name));
            members.next_value_seed(self.inner())?;
            self.walk.path.pop();
        }
        Ok(())
    }
}
