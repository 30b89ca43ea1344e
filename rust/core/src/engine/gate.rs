//! What rules out most rules at a glance.
//!
//! A flag with many rules is mostly made of rules about other companies. A rule's [`Gate`] has, for a few conditions that
//! must all hold, the bits of an entity's [`Facts`] of which one must be set. Where none is, the condition cannot hold,
//! and neither its memory nor the entity's needs to be looked at to know it; where one is, nothing is known, and the gate
//! must let the rule through.

use super::condition::{Condition, Membership, TraitOwner};
use super::facts::{
    ANY, BASE_PLAN, BILLING_PRODUCTS, Facts, ID, OF_USER, PLAN_VERSIONS, PLANS, TRAITS, other_bit,
    text_bit, word_of,
};
use super::operator::Operator;
use super::value::Comparable;

/// Conditions of one rule that an entity's facts may show not to hold.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    masks: [u64; TESTS],
    places: [u8; TESTS],
}

const TESTS: usize = 3;

impl Gate {
    /// Looks at the first conditions that all must hold. What comes after a condition about credits counts for nothing:
    /// a spend policy that it meets is reported even if the rule does not match.
    pub fn new(conditions: &[Condition]) -> Self {
        let mut gate = Self {
            masks: [u64::MAX; TESTS],
            places: [ANY; TESTS],
        };
        let tests = conditions
            .iter()
            .take_while(|condition| !matches!(condition, Condition::Credit(_)))
            .filter_map(test);
        for (at, (place, mask)) in tests.take(TESTS).enumerate() {
            gate.places[at] = place;
            gate.masks[at] = mask;
        }
        gate
    }

    /// Whether the rule may match; `false` only if it does not.
    #[inline]
    pub fn lets_through(&self, company: &Facts, user: &Facts) -> bool {
        let [first, second, third] = self.masks;
        let [place, next, last] = self.places;
        let may_hold = |place, mask| Facts::meet(company, user, place, mask);
        may_hold(place, first) && may_hold(next, second) && may_hold(last, third)
    }
}

/// The fact that a condition needs, as a place and the bits of which one must be set.
fn test(condition: &Condition) -> Option<(u8, u64)> {
    Some(match condition {
        Condition::Never => (ANY, 0),
        Condition::Member {
            of,
            ids,
            negated: false,
        } => (place_of(*of), ids.signature()),
        Condition::BasePlan {
            operator: Operator::Eq,
            ids,
        } => (BASE_PLAN, ids.signature()),
        Condition::Trait(condition) => {
            let compares_with_trait = condition
                .comparison
                .as_ref()
                .is_some_and(|definition| !definition.name.is_empty());
            // An entity without the trait has an empty text in its place.
            if condition.operator != Operator::Eq
                || condition.comparable != Comparable::Text
                || condition.value.text.is_empty()
                || compares_with_trait
            {
                return None;
            }
            let definition = condition.definition.hash;
            let owner = match condition.owner {
                TraitOwner::Company => 0,
                TraitOwner::User => OF_USER,
            };
            let bits = text_bit(definition, &condition.value.text) | other_bit(definition);
            (owner + TRAITS + word_of(definition), bits)
        }
        _ => return None,
    })
}

const fn place_of(membership: Membership) -> u8 {
    match membership {
        Membership::Company => ID,
        Membership::User => OF_USER + ID,
        Membership::Plan => PLANS,
        Membership::PlanVersion => PLAN_VERSIONS,
        Membership::BillingProduct => BILLING_PRODUCTS,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]

    use serde_json::{Value, json};

    use crate::engine::Company;
    use crate::engine::facts::NOBODY;
    use crate::wire::{parse_company, parse_flag};

    fn object(id: &str, mut fields: Value) -> Value {
        for (name, value) in [("id", id), ("account_id", "a"), ("environment_id", "e")] {
            fields[name] = value.into();
        }
        fields
    }

    /// A company on the plan `pro` with one trait.
    fn company(kind: &str) -> Company {
        let definition = json!({"id": "tier", "comparable_type": kind, "entity_type": "company"});
        let tier = json!({"trait_definition": definition, "value": "gold"});
        let company = json!({
            "keys": {}, "credit_balances": {}, "plan_ids": ["pro"], "metrics": [], "traits": [tier],
        });
        parse_company(object("acme", company).to_string().as_bytes()).unwrap()
    }

    fn condition(kind: &str, mut fields: Value) -> Value {
        fields["condition_type"] = kind.into();
        if fields["operator"].is_null() {
            fields["operator"] = "eq".into();
        }
        object("c", fields)
    }

    fn plan(id: &str) -> Value {
        condition("plan", json!({"resource_ids": [id], "trait_value": ""}))
    }

    fn tier(operator: &str, value: &str) -> Value {
        let definition =
            json!({"id": "tier", "comparable_type": "string", "entity_type": "company"});
        let fields = json!({
            "operator": operator, "trait_definition": definition, "trait_value": value,
            "resource_ids": [],
        });
        condition("trait", fields)
    }

    /// Whether a rule with these conditions may match the company, for all that its gate knows.
    fn may_match(conditions: &[Value], company: &Company) -> bool {
        let rule = json!({
            "name": "r", "rule_type": "standard", "priority": 1, "value": true,
            "conditions": conditions, "condition_groups": [],
        });
        let flag = json!({"key": "f", "default_value": false, "rules": [object("r", rule)]});
        let flag = parse_flag(object("f", flag).to_string().as_bytes()).unwrap();
        flag.rules[0].gate.lets_through(&company.facts, &NOBODY)
    }

    #[test]
    fn what_the_facts_show_not_to_hold_is_ruled_out() {
        let acme = company("string");
        assert!(may_match(&[plan("pro"), tier("eq", "gold")], &acme));
        for ruled_out in [
            [plan("free"), tier("eq", "gold")],
            [plan("pro"), tier("eq", "iron")],
            [
                condition("odd", json!({"resource_ids": [], "trait_value": ""})),
                plan("pro"),
            ],
        ] {
            assert!(!may_match(&ruled_out, &acme), "{ruled_out:?}");
        }
    }

    #[test]
    fn what_facts_do_not_tell_is_left_to_the_conditions() {
        let acme = company("string");
        let credit = json!({"credit_id": "credit", "resource_ids": [], "trait_value": ""});
        let credit = condition("credit", credit);
        for open in [
            [tier("ne", "gold"), plan("pro")],
            [tier("eq", ""), plan("pro")],
            // A spend policy that the credit meets is reported, though the rule does not match.
            [credit, plan("free")],
        ] {
            assert!(may_match(&open, &acme), "{open:?}");
        }
        // The text of a value that compares as something else says nothing about it.
        assert!(may_match(&[tier("eq", "iron")], &company("int")));
    }

    #[test]
    fn an_update_that_leaves_the_traits_keeps_their_facts() {
        let moved = company("string")
            .merge(br#"{"plan_ids": ["free"]}"#)
            .unwrap();
        assert!(may_match(&[plan("free"), tier("eq", "gold")], &moved));
        assert!(!may_match(&[plan("pro")], &moved));
        let bare = moved.merge(br#"{"traits": []}"#).unwrap();
        assert!(!may_match(&[tier("eq", "gold")], &bare));
    }
}
