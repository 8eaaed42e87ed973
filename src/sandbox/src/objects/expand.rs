//! `expand[]`: puts whole objects in the place of their ids.

use serde_json::Value;

use super::Object;
use crate::answer::ApiError;
use crate::form::Params;

/// Finds an object by its id.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<Object>;

/// Expands the asked paths in this answer; `data.x` goes into each row of a list.
///
/// # Errors
/// 400 for a path that cannot be expanded.
pub fn expand(find: Find<'_>, params: &Params, answer: &mut Value) -> Result<(), ApiError> {
    for path in params.map("expand")?.values() {
        if !walk(find, answer, path) {
            return Err(
                ApiError::invalid(format!("This property cannot be expanded ({path})."))
                    .param("expand"),
            );
        }
    }
    Ok(())
}

fn walk(find: Find<'_>, value: &mut Value, path: &str) -> bool {
    if let Value::Array(rows) = value {
        return rows.iter_mut().all(|row| walk(find, row, path));
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(field) = value.get_mut(first) else {
        return false;
    };
    let is_list = field.is_array();
    if !is_list
        && !field.is_object()
        && !matches!(
            first,
            "customer" | "charge" | "payment_intent" | "latest_charge"
        )
    {
        return false;
    }
    if let Some(id) = field.as_str()
        && let Some(whole) = find(id).and_then(|object| serde_json::to_value(object).ok())
    {
        *field = whole;
    }
    match rest {
        "" => !is_list,
        // Nothing to expand in what is null.
        _ if field.is_null() => true,
        _ => walk(find, field, rest),
    }
}
