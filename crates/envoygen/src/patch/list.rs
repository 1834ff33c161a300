//! What the operations do to a list whose order counts.

use config::networking::PatchOperation;

/// Applies one operation of a `value` to `items`; `named` tells which items the patch names, if it names any. Gives whether
/// anything changed. Without a name, insertions go to the list's ends, and nothing is replaced or removed (Istio).
pub(super) fn apply<T>(
    items: &mut Vec<T>,
    operation: PatchOperation,
    value: Option<T>,
    named: Option<&dyn Fn(&T) -> bool>,
) -> bool {
    let found = named.map(|named| items.iter().position(named));
    let at = match (operation, found) {
        (PatchOperation::Remove, Some(Some(_))) => {
            if let Some(named) = named {
                items.retain(|item| !named(item));
            }
            return true;
        }
        (PatchOperation::Replace, Some(Some(at))) => {
            let slot = items.get_mut(at);
            return slot.zip(value).map(|(slot, value)| *slot = value).is_some();
        }
        (PatchOperation::Add, _) | (PatchOperation::InsertAfter, None) => items.len(),
        (PatchOperation::InsertFirst, _) | (PatchOperation::InsertBefore, None) => 0,
        (PatchOperation::InsertAfter, Some(Some(at))) => at + 1,
        (PatchOperation::InsertBefore, Some(Some(at))) => at,
        _ => return false,
    };
    value.map(|value| items.insert(at, value)).is_some()
}

#[cfg(test)]
mod tests {
    use PatchOperation::{Add, InsertAfter, InsertBefore, InsertFirst, Remove, Replace};

    use super::*;

    /// Checks what one operation of 9 does to [1, 2, 3] where items equal to `name` are named.
    fn check(operation: PatchOperation, name: Option<i32>, expected: &[i32]) {
        let mut items = vec![1, 2, 3];
        let named = move |item: &i32| Some(*item) == name;
        let changed = apply(
            &mut items,
            operation,
            Some(9),
            name.is_some().then_some(&named as &dyn Fn(&i32) -> bool),
        );
        assert_eq!(items, expected, "{operation:?} {name:?}");
        assert_eq!(changed, expected != [1, 2, 3], "{operation:?} {name:?}");
    }

    #[test]
    fn places() {
        check(Add, None, &[1, 2, 3, 9]);
        check(Add, Some(1), &[1, 2, 3, 9]);
        check(InsertFirst, Some(2), &[9, 1, 2, 3]);
        check(InsertBefore, Some(2), &[1, 9, 2, 3]);
        check(InsertBefore, None, &[9, 1, 2, 3]);
        check(InsertAfter, Some(2), &[1, 2, 9, 3]);
        check(InsertAfter, None, &[1, 2, 3, 9]);
        check(InsertAfter, Some(7), &[1, 2, 3]);
        check(Replace, Some(2), &[1, 9, 3]);
        check(Replace, None, &[1, 2, 3]);
        check(Remove, Some(2), &[1, 3]);
        check(Remove, None, &[1, 2, 3]);
    }
}
