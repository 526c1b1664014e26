//! libvirt's events, which the `virt` crate does not wrap, and the owner of a descriptor that it
//! hands out. The only file with `unsafe` in it.
//!
//! Nothing unwinds through a callback: each only sends on a channel, behind `catch_unwind`.

#![expect(
    unsafe_code,
    reason = "virConnectDomainEventRegisterAny and virDomainOpenGraphicsFD have no safe wrapper"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;
use vmmgr_common::ids::VmId;

/// What a callback tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Something about this domain changed.
    Domain(VmId),
    /// The connection is closed.
    Closed,
}

type Sink = Box<dyn Fn(Event) + Send + Sync>;

/// Registers libvirt's default event loop and runs it on a thread; call before the first open.
pub(super) fn start_loop() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::error!(%error, "libvirt's event loop cannot be registered");
            return;
        }
        let spawned = std::thread::Builder::new().name("libvirt-events".into()).spawn(|| {
            loop {
                if let Err(error) = virt::event::event_run_default_impl() {
                    tracing::error!(%error, "libvirt's event loop failed once");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for libvirt's event loop");
        }
    });
}

/// A socket that the guest's QEMU serves one screen on, without the screen's own password.
pub(super) fn open_graphics(domain: &Domain, index: u32) -> Result<OwnedFd, Error> {
    let number = domain.open_graphics_fd(index, sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)?;
    // SAFETY: libvirt made the descriptor for us and keeps no copy of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Callbacks of one connection.
pub(super) struct Subscription {
    ids: Vec<c_int>,
}

impl Subscription {
    /// Registers for everything that changes what we show of a domain.
    pub(super) fn new(
        connection: &Connect,
        sink: impl Fn(Event) + Clone + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let boxed =
            || -> *mut c_void { Box::into_raw(Box::new(Box::new(sink.clone()) as Sink)).cast() };
        let lifecycle: unsafe extern "C" fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            c_int,
            c_int,
            *mut c_void,
        ) -> c_int = on_lifecycle;
        let device: unsafe extern "C" fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            *const c_char,
            *mut c_void,
        ) = on_device;
        let metadata: unsafe extern "C" fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            c_int,
            *const c_char,
            *mut c_void,
        ) = on_metadata;
        // SAFETY: libvirt's generic callback type stands for the one of the event id, and is cast
        // back to it by libvirt; the pairs below are those of libvirt-domain.h.
        let wanted: [(sys::virDomainEventID, sys::virConnectDomainEventGenericCallback); 5] = unsafe {
            [
                (
                    sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                    Some(std::mem::transmute::<
                        *const (),
                        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                    >(lifecycle as *const ())),
                ),
                (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(on_reboot)),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                    Some(std::mem::transmute::<
                        *const (),
                        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                    >(device as *const ())),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                    Some(std::mem::transmute::<
                        *const (),
                        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                    >(device as *const ())),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                    Some(std::mem::transmute::<
                        *const (),
                        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                    >(metadata as *const ())),
                ),
            ]
        };
        let mut ids = Vec::new();
        for (event, callback) in wanted {
            let opaque = boxed();
            // SAFETY: the connection is open; `opaque` is freed by `free_sink`, once.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    connection.as_ptr(),
                    ptr::null_mut(),
                    event as c_int,
                    callback,
                    opaque,
                    Some(free_sink),
                )
            };
            if id >= 0 {
                ids.push(id);
                continue;
            }
            let error = Error::last_error();
            // SAFETY: libvirt did not take `opaque`.
            unsafe { free_sink(opaque) };
            // The state of domains is what matters; a driver may lack the rest.
            if event == sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE {
                return Err(error);
            }
        }
        let opaque = boxed();
        // SAFETY: as above.
        let closed = unsafe {
            sys::virConnectRegisterCloseCallback(
                connection.as_ptr(),
                Some(on_close),
                opaque,
                Some(free_sink),
            )
        };
        if closed < 0 {
            // SAFETY: libvirt did not take `opaque`.
            unsafe { free_sink(opaque) };
        }
        Ok(Self { ids })
    }

    /// Lets go of the callbacks, so that the connection can be freed. A dead connection refuses
    /// the call but forgets them all the same.
    pub(super) fn end(self, connection: &Connect) {
        for id in self.ids {
            // SAFETY: the connection handle is alive until it is dropped.
            let gone = unsafe { sys::virConnectDomainEventDeregisterAny(connection.as_ptr(), id) };
            if gone < 0 {
                tracing::debug!("an event callback was gone with its connection");
            }
        }
        // SAFETY: as above.
        let gone =
            unsafe { sys::virConnectUnregisterCloseCallback(connection.as_ptr(), Some(on_close)) };
        if gone < 0 {
            tracing::debug!("the close callback was gone with its connection");
        }
    }
}

/// Tells the sink; a panic stops here.
unsafe fn tell(opaque: *mut c_void, event: Event) {
    // SAFETY: `opaque` is the box that was registered with this callback.
    let sink = unsafe { &*opaque.cast::<Sink>() };
    if catch_unwind(AssertUnwindSafe(|| sink(event))).is_err() {
        tracing::error!("a panic in an event callback was stopped");
    }
}

unsafe fn tell_domain(domain: sys::virDomainPtr, opaque: *mut c_void) {
    let mut text = [0 as c_char; sys::VIR_UUID_STRING_BUFLEN as usize];
    // SAFETY: libvirt lends the domain for the call; the buffer has the size that it asks for.
    let read = unsafe { sys::virDomainGetUUIDString(domain, text.as_mut_ptr()) };
    if read < 0 {
        return;
    }
    // SAFETY: libvirt ended the string with a zero.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    if let Some(vm) = text.to_str().ok().and_then(|text| VmId::parse(text).ok()) {
        // SAFETY: passed on as it came.
        unsafe { tell(opaque, Event::Domain(vm)) };
    }
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: as libvirt calls it.
    unsafe { tell_domain(domain, opaque) };
    0
}

unsafe extern "C" fn on_reboot(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it.
    unsafe { tell_domain(domain, opaque) };
}

unsafe extern "C" fn on_device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it.
    unsafe { tell_domain(domain, opaque) };
}

unsafe extern "C" fn on_metadata(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _kind: c_int,
    _namespace: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: as libvirt calls it.
    unsafe { tell_domain(domain, opaque) };
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: as libvirt calls it.
    unsafe { tell(opaque, Event::Closed) };
}

unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: made by `Box::into_raw` above, and given back exactly once.
    drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
}
