//! Reading of server-sent events (the `text/event-stream` of WHATWG HTML), piece by piece.

/// Longest event: a guest with all that it has, many times over.
const LONGEST: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its name; `message` for one without.
    pub event: String,
    /// Id of the last event that had one, this one included; empty before the first.
    pub id: String,
    /// Its data; several lines are joined by newlines.
    pub data: String,
}

/// The server sent more than any event has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server sent an event of more than {LONGEST} bytes")]
pub struct EventTooLong;

/// Reads a stream.
#[derive(Debug, Default)]
pub struct ServerEvents {
    buffer: Vec<u8>,
    last_id: String,
    id: String,
    event: String,
    data: Option<String>,
}

impl ServerEvents {
    /// Id of what came whole, to resume after (`Last-Event-ID`); empty before the first. Comments
    /// move it, too.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Takes what came and gives the events that are complete.
    ///
    /// # Errors
    /// [`EventTooLong`]; nothing that follows is of use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<ServerEvent>, EventTooLong> {
        self.buffer.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut start = 0;
        while let Some(length) = self.buffer[start..].iter().position(|byte| *byte == b'\n') {
            let line = &self.buffer[start..start + length];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
            let line = line.into_owned();
            start += length + 1;
            found.extend(self.take(&line));
        }
        self.buffer.drain(..start);
        let held = self.buffer.len() + self.data.as_ref().map_or(0, String::len);
        if held > LONGEST { Err(EventTooLong) } else { Ok(found) }
    }

    fn take(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            self.last_id.clone_from(&self.id);
            let event = std::mem::take(&mut self.event);
            let data = self.data.take()?;
            let event = if event.is_empty() { "message".to_owned() } else { event };
            return Some(ServerEvent { event, id: self.last_id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment, or what later servers say.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: vm\nid: e-1\ndata: {\"a\":1}\n\n: keep-alive\nid: e-4\n\n\
                          data: one\r\ndata:two\r\nretry: 3\r\n\r\nid: e-5\nevent: lost\n";

    fn event(event: &str, id: &str, data: &str) -> ServerEvent {
        ServerEvent { event: event.into(), id: id.into(), data: data.into() }
    }

    #[test]
    fn a_stream_is_read_the_same_however_it_is_cut() {
        let expected = [event("vm", "e-1", "{\"a\":1}"), event("message", "e-4", "one\ntwo")];
        for size in 1..STREAM.len() {
            let mut events = ServerEvents::default();
            let mut found = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                found.extend(events.push(piece).unwrap());
            }
            assert_eq!(found, expected, "in pieces of {size}");
            assert_eq!(events.last_id(), "e-4", "what did not come whole comes again");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_held_forever() {
        let mut events = ServerEvents::default();
        let piece = vec![b'x'; 1 << 20];
        let ended = (0..6).find_map(|_| events.push(&piece).err());
        assert_eq!(ended, Some(EventTooLong));
        let mut events = ServerEvents::default();
        let line = [b"data: ", piece.as_slice(), b"\n"].concat();
        let ended = (0..6).find_map(|_| events.push(&line).err());
        assert_eq!(ended, Some(EventTooLong));
    }
}
