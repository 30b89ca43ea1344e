//! A plain, slow evaluator that reads wire JSON as it stands: nothing compiled, nothing hashed, lists scanned from the
//! front. What the compiled engine must answer.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

const GROUPS: [&str; 7] = [
    "global_override",
    "company_override",
    "plan_entitlement",
    "company_override_usage_exceeded",
    "plan_entitlement_usage_exceeded",
    "standard",
    "default",
];
const TOKENS: [&str; 5] = [
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_tokens",
];

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub value: bool,
    pub rule_id: Option<String>,
    /// Whether a spend policy decided.
    pub spend_policy: Option<String>,
    pub allocation: Option<i64>,
    pub usage: Option<i64>,
    pub error: bool,
}

/// A metric condition without a value fails its whole rule.
struct RuleFails;

struct Scene<'a> {
    company: &'a Value,
    user: &'a Value,
    options: &'a Value,
    now: DateTime<Utc>,
}

/// Checks the flag of an envelope.
pub fn check(envelope: &Value, now: DateTime<Utc>) -> Answer {
    let flag = &envelope["flag"];
    let scene = Scene {
        company: &envelope["company"],
        user: &envelope["user"],
        options: &envelope["options"],
        now,
    };
    let mut answer = Answer {
        value: flag["default_value"] == true,
        rule_id: None,
        spend_policy: None,
        allocation: None,
        usage: None,
        error: false,
    };
    if scene.asks_below_zero() {
        answer.error = true;
        return answer;
    }
    if flag["id"] == "" {
        return answer;
    }
    let mut earlier = None;
    for rule in pool(flag, &scene) {
        let mut violation = None;
        let matched = rule["id"] != "" && scene.matches(rule, &mut violation).unwrap_or(false);
        if !matched {
            earlier = earlier.or(violation);
            continue;
        }
        let kind = text(&rule["rule_type"]);
        answer.value = rule["value"] == true;
        answer.rule_id = Some(text(&rule["id"]).to_owned());
        let decided = match kind {
            "default" => earlier,
            _ if kind.ends_with("exceeded") => violation,
            _ => None,
        };
        answer.spend_policy = decided.filter(|_| !answer.value);
        if !scene.company.is_null() && !["global_override", "standard", "default"].contains(&kind) {
            (answer.allocation, answer.usage) = scene.measured(rule).unzip();
        }
        return answer;
    }
    answer.spend_policy = earlier.filter(|_| !answer.value);
    answer
}

/// The rules in the order in which they are tried.
fn pool<'a>(flag: &'a Value, scene: &Scene<'a>) -> Vec<&'a Value> {
    let added = list(&scene.company["rules"])
        .iter()
        .chain(list(&scene.user["rules"]));
    let added = added.filter(|rule| rule["flag_id"].is_string() && rule["flag_id"] == flag["id"]);
    let mut rules: Vec<&Value> = list(&flag["rules"]).iter().chain(added).collect();
    rules.sort_by_key(|rule| {
        let kind = text(&rule["rule_type"]);
        let order = match kind {
            "standard" => rule["priority"].as_i64().unwrap_or(0),
            "global_override" | "default" => 0,
            _ => i64::from(rule["value"] != true),
        };
        (GROUPS.iter().position(|group| *group == kind), order)
    });
    rules
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

impl Scene<'_> {
    fn asks_below_zero(&self) -> bool {
        let quantities = &self.options["event_quantities"];
        let of_map = |map: &Value| {
            map.as_object().is_some_and(|map| {
                map.values()
                    .any(|it| it.as_f64().is_some_and(|it| it < 0.0))
            })
        };
        let below = |value: &Value| value.as_f64().is_some_and(|it| it < 0.0);
        below(&self.options["usage"])
            || below(&self.options["event_usage"]["quantity"])
            || below(&quantities["quantity"])
            || of_map(&quantities["quantities"])
            || of_map(&self.options["credit_cost"])
    }

    fn matches(&self, rule: &Value, violation: &mut Option<String>) -> Result<bool, RuleFails> {
        if ["global_override", "default"].contains(&text(&rule["rule_type"])) {
            return Ok(true);
        }
        for condition in list(&rule["conditions"]) {
            if !self.holds(condition, violation)? {
                return Ok(false);
            }
        }
        for group in list(&rule["condition_groups"]) {
            let mut any = false;
            for condition in list(&group["conditions"]) {
                if self.holds(condition, violation)? {
                    any = true;
                    break;
                }
            }
            if !any {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&self, condition: &Value, violation: &mut Option<String>) -> Result<bool, RuleFails> {
        if condition["id"] == "" {
            return Ok(false);
        }
        let listed = |id: &Value| list(&condition["resource_ids"]).contains(id);
        let member =
            |entity: &Value, hit: bool| !entity.is_null() && hit != (condition["operator"] == "ne");
        let any = |ids: &Value| list(ids).iter().any(listed);
        let company = self.company;
        Ok(match text(&condition["condition_type"]) {
            "company" => member(company, listed(&company["id"])),
            "user" => member(self.user, listed(&self.user["id"])),
            "plan" => member(company, any(&company["plan_ids"])),
            "plan_version" => member(company, any(&company["plan_version_ids"])),
            "billing_product" => member(company, any(&company["billing_product_ids"])),
            "base_plan" => {
                let plan = &company["base_plan_id"];
                !company.is_null()
                    && match text(&condition["operator"]) {
                        "eq" => plan.is_string() && listed(plan),
                        "ne" => !plan.is_string() || !listed(plan),
                        "is_empty" => !plan.is_string(),
                        "not_empty" => plan.is_string(),
                        _ => false,
                    }
            }
            "metric" => self.metric_holds(condition)?,
            "trait" => self.trait_holds(condition),
            "credit" => self.credit_holds(condition, violation),
            _ => false,
        })
    }

    /// Units of usage: of the event, or else of no event in particular.
    fn asked_usage(&self, event: &Value) -> Option<i64> {
        let of_event = &self.options["event_usage"];
        let of_event = (event.is_string() && of_event["event_subtype"] == *event)
            .then(|| of_event["quantity"].as_i64())
            .flatten()
            .filter(|&quantity| quantity > 0);
        of_event.or_else(|| self.options["usage"].as_i64().filter(|&usage| usage > 0))
    }

    fn metric_row(&self, condition: &Value) -> i64 {
        let or = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
        let period = or(&condition["metric_period"], "all_time");
        let reset = or(&condition["metric_period_month_reset"], "first_of_month");
        let row = list(&self.company["metrics"]).iter().find(|row| {
            row["event_subtype"] == condition["event_subtype"]
                && text(&row["period"]) == period
                && text(&row["month_reset"]) == reset
        });
        row.and_then(|row| row["value"].as_i64()).unwrap_or(0)
    }

    fn metric_holds(&self, condition: &Value) -> Result<bool, RuleFails> {
        if self.company.is_null() || !condition["event_subtype"].is_string() {
            return Ok(false);
        }
        let Some(mut right) = condition["metric_value"].as_i64() else {
            return Err(RuleFails);
        };
        let mut left = self.metric_row(condition);
        if let Some(usage) = self.asked_usage(&condition["event_subtype"]) {
            left = left.wrapping_add(usage);
        }
        let comparison = &condition["comparison_trait_definition"];
        if !comparison.is_null() {
            let found = find_trait(self.company, comparison).filter(|_| comparison["id"] != "");
            right = found
                .and_then(|it| text(&it["value"]).parse().ok())
                .unwrap_or(0);
        }
        Ok(compare(
            text(&condition["operator"]),
            &left,
            &right,
            left == 0,
            left > 0,
        ))
    }

    fn trait_holds(&self, condition: &Value) -> bool {
        let definition = &condition["trait_definition"];
        let entity = if definition["entity_type"] == "company" {
            self.company
        } else {
            self.user
        };
        if definition.is_null() || entity.is_null() {
            return false;
        }
        let find =
            |definition: &Value| find_trait(entity, definition).filter(|_| definition["id"] != "");
        let (mut left, kind) = match find(definition) {
            Some(it) => (
                text(&it["value"]).to_owned(),
                text(&it["trait_definition"]["comparable_type"]),
            ),
            None if definition["id"] == "" => (String::new(), "string"),
            None => (String::new(), text(&definition["comparable_type"])),
        };
        let comparison = &condition["comparison_trait_definition"];
        let right = if comparison.is_null() || comparison["id"] == "" {
            text(&condition["trait_value"])
        } else {
            find(comparison).map_or("", |it| text(&it["value"]))
        };
        let usage = self.options["usage"].as_i64().filter(|&usage| usage > 0);
        if let (Some(usage), "int") = (usage, kind) {
            left = left.parse().unwrap_or(0i64).wrapping_add(usage).to_string();
        }
        compare_as(kind, text(&condition["operator"]), &left, right)
    }

    fn credit_holds(&self, condition: &Value, violation: &mut Option<String>) -> bool {
        let Some(credit) = condition["credit_id"]
            .as_str()
            .filter(|_| !self.company.is_null())
        else {
            return false;
        };
        let said = self.options["credit_cost"][credit].as_f64();
        let cost = said.unwrap_or_else(|| self.cost(condition));
        let covered = if let Some(policy) = self.refusing_policy(credit, cost) {
            violation.get_or_insert(policy);
            false
        } else {
            let postpaid = &self.company["credit_postpaid"][credit];
            let overdraft = postpaid["overdraft_limit"].as_f64();
            let balance = self.company["credit_balances"][credit]
                .as_f64()
                .unwrap_or(0.0);
            let available = balance + overdraft.unwrap_or(0.0);
            if postpaid.is_object() && overdraft.is_none() {
                true
            } else if cost == 0.0 && said.is_none() {
                available > 0.0
            } else {
                available >= cost
            }
        };
        covered != ["gt", "gte"].contains(&text(&condition["operator"]))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "the engine prices usage in doubles"
    )]
    fn cost(&self, condition: &Value) -> f64 {
        let rate = condition["consumption_rate"].as_f64().unwrap_or(1.0);
        let event = &condition["event_subtype"];
        let asked = &self.options["event_quantities"];
        if !event.is_string() || asked["event_subtype"] != *event {
            return self
                .asked_usage(event)
                .map_or(rate, |usage| usage as f64 * rate);
        }
        let quantity = |name: &str| asked["quantities"][name].as_f64().map(|it| it.min(1e9));
        let rates = condition["quantity_rates"].as_object();
        let mut others: Vec<&str> =
            rates.map_or(vec![], |rates| rates.keys().map(String::as_str).collect());
        others.retain(|name| !TOKENS.contains(name));
        others.sort_unstable();
        let units = asked["quantity"].as_f64().filter(|&units| units > 0.0);
        let mut total = units.map_or(rate, |units| units * rate);
        for name in TOKENS.into_iter().chain(others) {
            let rate = condition["quantity_rates"][name].as_f64();
            let (Some(rate), Some(mut units)) = (rate, quantity(name)) else {
                continue;
            };
            if name == "input_tokens" {
                let subset = |name| quantity(name).unwrap_or(0.0);
                units =
                    (units - subset("cached_input_tokens") - subset("cache_creation_input_tokens"))
                        .max(0.0);
            }
            total += units * rate;
        }
        total
    }

    /// The id of the first policy that refuses.
    fn refusing_policy(&self, credit: &str, cost: f64) -> Option<String> {
        let of_company = list(&self.company["credit_spend_policies"])
            .iter()
            .map(|it| (it, "user"));
        let of_user = list(&self.user["credit_spend_policies"])
            .iter()
            .map(|it| (it, "company"));
        let refuses = |policy: &Value, skipped: &str| {
            let for_another = skipped == "company"
                && policy["company_id"].is_string()
                && policy["company_id"] != self.company["id"];
            let kind = text(&policy["kind"]);
            let Some(limit) = policy["limit"].as_f64() else {
                return false;
            };
            if text(&policy["credit_id"]) != credit
                || policy["scope"] == skipped
                || for_another
                || !["per_draw", "window"].contains(&kind)
            {
                return false;
            }
            let resets = DateTime::parse_from_rfc3339(text(&policy["resets_at"])).ok();
            let is_over = resets.is_some_and(|at| at <= self.now);
            let counts = kind == "window" && !is_over;
            let consumed = if counts {
                policy["consumed"].as_f64().unwrap_or(0.0)
            } else {
                0.0
            };
            consumed + cost > limit
        };
        of_company
            .chain(of_user)
            .find(|(it, skipped)| refuses(it, skipped))
            .map(|(it, _)| text(&it["id"]).to_owned())
    }

    /// (allocation, usage) by the first metric or trait condition.
    fn measured(&self, rule: &Value) -> Option<(i64, i64)> {
        let is_measure = |it: &&Value| ["metric", "trait"].contains(&text(&it["condition_type"]));
        let condition = list(&rule["conditions"]).iter().find(is_measure)?;
        let (mut allocation, usage) = if condition["condition_type"] == "metric" {
            (
                condition["metric_value"].as_i64().unwrap_or(0),
                self.metric_row(condition),
            )
        } else {
            let found = find_trait(self.company, &condition["trait_definition"]);
            let usage = found
                .and_then(|it| text(&it["value"]).parse().ok())
                .unwrap_or(0);
            (text(&condition["trait_value"]).parse().unwrap_or(0), usage)
        };
        let comparison = &condition["comparison_trait_definition"];
        let compared = find_trait(self.company, comparison).filter(|_| !comparison.is_null());
        if let Some(value) = compared.and_then(|it| text(&it["value"]).parse().ok()) {
            allocation = value;
        }
        Some((allocation, usage))
    }
}

fn find_trait<'a>(entity: &'a Value, definition: &Value) -> Option<&'a Value> {
    list(&entity["traits"]).iter().find(|it| {
        !it["trait_definition"].is_null() && it["trait_definition"]["id"] == definition["id"]
    })
}

fn compare<T: PartialOrd + ?Sized>(
    operator: &str,
    left: &T,
    right: &T,
    empty: bool,
    full: bool,
) -> bool {
    match operator {
        "eq" => left == right,
        "ne" => left != right,
        "gt" => left > right,
        "lt" => left < right,
        "gte" => left >= right,
        "lte" => left <= right,
        "is_empty" => empty,
        "not_empty" => full,
        _ => false,
    }
}

fn compare_as(kind: &str, operator: &str, left: &str, right: &str) -> bool {
    match kind {
        "bool" => {
            let truth = |text: &str| text == "true" || text == "1";
            let ordered = ["gt", "lt", "gte", "lte"].contains(&operator);
            !ordered && compare(operator, &truth(left), &truth(right), false, true)
        }
        "int" => {
            if let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) {
                return compare(operator, &left, &right, left == 0, left > 0);
            }
            let number = |text: &str| {
                let number = text.parse::<f64>().ok().filter(|it| it.is_finite());
                number.unwrap_or(0.0)
            };
            let (left, right) = (number(left), number(right));
            compare(operator, &left, &right, left == 0.0, left > 0.0)
        }
        "date" => {
            let (left, right) = (date(left), date(right));
            compare(operator, &left, &right, left.is_none(), left.is_some())
        }
        _ => compare(operator, left, right, left.is_empty(), !left.is_empty()),
    }
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    let formats = [
        "%Y-%m-%d %H:%M:%S %Z",
        "%Y-%m-%dT%H:%M:%S%.3f%z",
        "%a %b %d %Y %H:%M:%S GMT%z",
        "%a %b %d %Y %H:%M:%S %Z",
    ];
    for format in formats {
        if let Ok(instant) = DateTime::parse_from_str(text, format) {
            return Some(instant.to_utc());
        }
        if let Ok(instant) = NaiveDateTime::parse_from_str(text, format) {
            return Some(instant.and_utc());
        }
    }
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|instant| instant.to_utc())
}
