//! Whether a result is what a vector expects.

use serde_json::Value;

/// Everything expected is there; numbers compare as doubles.
pub fn compare(expected: &Value, found: &Value) -> Result<(), String> {
    match (expected, found) {
        (Value::Object(expected), _) => expected.iter().try_for_each(|(name, expected)| {
            let found = found.get(name);
            let found = found.ok_or_else(|| format!("{name} is not in the result"))?;
            compare(expected, found).map_err(|fault| format!("{name}: {fault}"))
        }),
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => wanted
            .iter()
            .zip(there)
            .try_for_each(|(wanted, there)| compare(wanted, there)),
        (Value::Number(wanted), Value::Number(there)) if wanted.as_f64() == there.as_f64() => {
            Ok(())
        }
        _ if expected == found => Ok(()),
        _ => Err(format!("expected {expected}, found {found}")),
    }
}
