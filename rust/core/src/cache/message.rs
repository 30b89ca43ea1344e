//! `DataStream` messages, and what the cache makes of them.
//!
//! A message is applied whole or not at all; one that cannot be read changes nothing and is described.

use std::{collections::HashMap, sync::atomic::Ordering::Relaxed};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    cache::Cache,
    wire::{self, WireError},
};

/// What became of one `DataStream` message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// As sent, for example `rulesengine.Company`.
    pub entity_type: Option<String>,
    /// `full`, `partial`, `delete` or `error`.
    pub message_type: Option<String>,
    /// The entity it is about.
    pub entity_id: Option<String>,
    /// For a full company or user, its keys; for an error, the keys whose waiters fail.
    pub keys: Option<HashMap<String, String>>,
    /// Of an error: what the server says.
    pub error: Option<String>,
    /// A sentence for each part that could not be read.
    pub skipped: Vec<String>,
    /// The keys of the flags that were added, changed or removed; empty for the first set.
    pub changed_flags: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    entity_type: Option<String>,
    #[serde(default)]
    message_type: Option<String>,
    #[serde(default)]
    entity_id: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Fault {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    keys: Option<HashMap<String, String>>,
    #[serde(default)]
    entity_type: Option<String>,
}

/// What a delete message says of the entity that is gone.
#[derive(Deserialize, Default)]
struct Gone {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

impl Cache {
    /// Takes in one message.
    pub fn apply(&self, message: &[u8]) -> Ingested {
        let envelope: Envelope<'_> = match serde_json::from_slice(message) {
            Ok(envelope) => envelope,
            Err(fault) => {
                let fault = format!("a message that is not a DataStream message: {fault}");
                return Ingested {
                    skipped: vec![fault],
                    ..Ingested::default()
                };
            }
        };
        let data = envelope.data.map_or("null", RawValue::get).as_bytes();
        let mut ingested = Ingested {
            entity_type: envelope.entity_type,
            message_type: envelope.message_type,
            entity_id: envelope.entity_id,
            ..Ingested::default()
        };
        let applied = {
            let _one_at_a_time = self.applying.lock();
            self.apply_data(&mut ingested, data)
        };
        if let Err(fault) = applied {
            let what = ingested.describe();
            ingested.skipped.push(format!("{what}: {fault}"));
        }
        ingested
    }

    fn apply_data(&self, ingested: &mut Ingested, data: &[u8]) -> Result<(), WireError> {
        let entity_type = ingested.entity_type.clone().unwrap_or_default();
        let message_type = ingested.message_type.clone().unwrap_or_default();
        match (entity_type.as_str(), message_type.as_str()) {
            (_, "error") => ingested.take_fault(data),
            ("rulesengine.Flags", "full") => {
                let (flags, skipped) = wire::parse_flags(data)?;
                let changed = self.flags.replace(flags);
                if self.has_flags.swap(true, Relaxed) {
                    ingested.changed_flags = changed;
                }
                ingested.skipped = skipped;
            }
            ("rulesengine.Flag", "full") => {
                ingested.changed_flags = self.flags.put(wire::parse_flag(data)?);
            }
            ("rulesengine.Flag", "delete") => {
                let gone = ingested.gone(data);
                ingested.changed_flags = self.flags.remove(gone.id.as_deref(), gone.key.as_deref());
            }
            ("rulesengine.Company", "full") => {
                let company = wire::parse_company(data)?;
                ingested.entity_id = Some(company.id().to_string());
                ingested.keys = Some(owned(company.keys()));
                self.companies.put(company);
            }
            ("rulesengine.User", "full") => {
                let user = wire::parse_user(data)?;
                ingested.entity_id = Some(user.id().to_string());
                ingested.keys = Some(owned(user.keys()));
                self.users.put(user);
            }
            ("rulesengine.Company", "partial") => self.merge_company(ingested, data)?,
            ("rulesengine.User", "partial") => self.merge_user(ingested, data)?,
            ("rulesengine.Company", "delete") => {
                if let Some(id) = ingested.gone(data).id {
                    self.companies.remove(&id);
                }
            }
            ("rulesengine.User", "delete") => {
                if let Some(id) = ingested.gone(data).id {
                    self.users.remove(&id);
                }
            }
            _ => ingested
                .skipped
                .push(format!("{}: not known", ingested.describe())),
        }
        Ok(())
    }

    fn merge_company(&self, ingested: &Ingested, data: &[u8]) -> Result<(), WireError> {
        let known = ingested
            .gone(data)
            .id
            .and_then(|id| self.companies.get(&id));
        if let Some(company) = known {
            self.companies.put(company.merge(data)?);
        }
        Ok(())
    }

    fn merge_user(&self, ingested: &Ingested, data: &[u8]) -> Result<(), WireError> {
        let known = ingested.gone(data).id.and_then(|id| self.users.get(&id));
        if let Some(user) = known {
            self.users.put(user.merge(data)?);
        }
        Ok(())
    }
}

fn owned<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> HashMap<String, String> {
    keys.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl Ingested {
    fn describe(&self) -> String {
        format!(
            "{} message for {}{}",
            self.message_type.as_deref().unwrap_or("untyped"),
            self.entity_type.as_deref().unwrap_or("no entity type"),
            self.entity_id
                .as_deref()
                .map(|id| format!(" {id}"))
                .unwrap_or_default(),
        )
    }

    /// The entity that a message is about: named by the envelope, or else by the data.
    fn gone(&self, data: &[u8]) -> Gone {
        let named: Gone = serde_json::from_slice(data).unwrap_or_default();
        Gone {
            id: self.entity_id.clone().or(named.id),
            key: named.key,
        }
    }

    fn take_fault(&mut self, data: &[u8]) {
        let fault: Fault = serde_json::from_slice(data).unwrap_or_default();
        self.error = Some(
            fault
                .error
                .unwrap_or_else(|| "unspecified error".to_owned()),
        );
        self.keys = fault.keys;
        if self.entity_type.as_deref().is_none_or(str::is_empty) {
            self.entity_type = fault.entity_type;
        }
    }
}
