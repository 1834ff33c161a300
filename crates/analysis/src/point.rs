//! Where in its file the field of a message is. Analyzers know the line of the object alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Places;

use crate::Message;

/// Makes messages about fields of files point to the line of the field. `text` gives a file's content by the name that objects
/// have for it; messages of other files stay at the line of the object.
pub fn point<'a>(
    messages: impl IntoIterator<Item = &'a mut Message>,
    text: impl Fn(&str) -> Option<&'a [u8]>,
) {
    let mut files: BTreeMap<Arc<str>, Option<Places>> = BTreeMap::new();
    for message in messages {
        let Some(file) = message.origin.file.clone().filter(|_| !message.path.is_empty()) else {
            continue;
        };
        let places = files
            .entry(file.clone())
            .or_insert_with(|| text(&file).map(Places::of));
        let place = places
            .as_ref()
            .and_then(|places| places.find(&message.origin, &message.path));
        if let Some(place) = place {
            message.origin = place;
        }
    }
}
