use super::super::spec::tests::request;
use super::super::{policy, read};
use super::*;
use crate::hypervisor::RawDomain;
use vmmgr_common::api::domain::DomainState;
use vmmgr_common::ids::VmId;

const HOST: fn() -> HostFacts<'static> =
    || HostFacts { virt_type: "qemu", console_log_dir: Path::new("/var/log/vmmgr") };

fn render_with(templates: &Templates, create: &DomainCreate) -> Result<String, Problem> {
    templates.render_domain(&DomainSpec::try_from(create)?, &HOST())
}

fn render(create: &DomainCreate) -> Result<String, Problem> {
    render_with(&Templates::load(None)?, create)
}

/// What the domains alone need.
fn logs() -> policy::Allowed<'static> {
    policy::Allowed { roots: vec!["/var/log/vmmgr".into()], ..policy::Allowed::default() }
}

fn with(mut create: DomainCreate, variables: &[(&str, &str)]) -> DomainCreate {
    create.variables =
        variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    create
}

/// Compares with `tests/golden/<name>.xml`; with `VMMGR_BLESS` set, writes it instead.
fn golden(name: &str, xml: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.xml"));
    if std::env::var_os("VMMGR_BLESS").is_some() {
        fs_err::write(&path, xml).unwrap();
    }
    assert_eq!(fs_err::read_to_string(&path).unwrap(), xml, "{name}");
}

#[test]
fn hostile_text_stays_text() {
    let mut create = request(Arch::X86_64, Firmware::Bios);
    create.description =
        "</description><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'/>{{ 7*7 }}".into();
    create.record.tenant = "a&b<c>\"'".into();
    let xml = render(&create).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    assert!(!xml.contains("<qemu:"));
    policy::check(&xml, &logs()).unwrap();
    let described = document.descendants().find(|n| n.has_tag_name("description")).unwrap();
    assert_eq!(described.text(), Some(create.description.as_str()));
    let raw = RawDomain {
        id: create.id,
        xml,
        state: DomainState::ShutOff,
        memory_kib: 1,
        cpu_time_ns: 0,
        autostart: false,
    };
    let domain = read::parse(&raw).unwrap();
    assert_eq!(domain.record.tenant, create.record.tenant);
    assert_eq!(domain.vcpus_max, 2);
}

#[test]
fn every_architecture_firmware_and_variable_passes_the_policy() {
    let templates = Templates::load(None).unwrap();
    let mut count = 0;
    for (arch, firmware) in [
        (Arch::X86_64, Firmware::Bios),
        (Arch::X86_64, Firmware::Uefi),
        (Arch::X86_64, Firmware::UefiSecure),
        (Arch::Aarch64, Firmware::Uefi),
        (Arch::Aarch64, Firmware::UefiSecure),
    ] {
        let name = ResourceName::parse(arch.as_str()).unwrap();
        for (variable, about) in &templates.domains()[&name] {
            assert!(!about.help.is_empty(), "{name}: `{variable}` has no help");
            for value in &about.one_of {
                let create = with(request(arch, firmware), &[(variable, value)]);
                let xml = render_with(&templates, &create).unwrap();
                policy::check(&xml, &logs()).unwrap();
                assert_eq!(xml.contains("pflash"), firmware != Firmware::Bios);
                assert!(xml.contains("ds=nocloud-net;s=http:"));
                count += 1;
            }
        }
        let own = with(request(arch, firmware), &[("video", "</video><hostdev/>")]);
        assert_eq!(render_with(&templates, &own).unwrap_err().status, 422);
    }
    assert!(count > 100, "{count}");
}

#[test]
fn a_screen_is_the_one_that_was_asked_for() {
    for graphics in [Graphics::Vnc, Graphics::Spice, Graphics::None] {
        let create = DomainCreate { graphics, ..request(Arch::X86_64, Firmware::Bios) };
        let xml = render(&create).unwrap();
        policy::check(&xml, &logs()).unwrap();
        assert_eq!(xml.contains("<graphics type='spice'>"), graphics == Graphics::Spice);
        assert_eq!(xml.contains("<graphics type='vnc'>"), graphics == Graphics::Vnc);
        assert_eq!(xml.contains("type='tablet'"), graphics != Graphics::None);
    }
}

#[test]
fn the_xml_of_typical_guests_is_as_it_was_judged() {
    let id = VmId::parse("6f5d8bf6-d580-4946-9541-13fa98b4acf4").unwrap();
    let of = |arch, firmware| DomainCreate { id, ..request(arch, firmware) };
    golden("x86_64-bios", &render(&of(Arch::X86_64, Firmware::Bios)).unwrap());
    let windows = DomainCreate { tpm: true, ..of(Arch::X86_64, Firmware::UefiSecure) };
    let windows = with(windows, &[("sound", "ich9"), ("clock", "localtime"), ("video", "qxl")]);
    golden("x86_64-secure", &render(&windows).unwrap());
    let mut old = of(Arch::X86_64, Firmware::Bios);
    old.machine = Some(ResourceName::parse("pc").unwrap());
    old.cpu_model = Some(ResourceName::parse("IvyBridge").unwrap());
    let old = with(
        old,
        &[
            ("rng", "off"),
            ("tablet", "off"),
            ("boot_menu_ms", "0"),
            ("iothreads", "1"),
            ("memory_source", "memfd"),
        ],
    );
    golden("x86_64-pc", &render(&old).unwrap());
    let arm = DomainCreate { tpm: true, ..of(Arch::Aarch64, Firmware::Uefi) };
    golden("aarch64-uefi", &render(&arm).unwrap());
}

#[test]
fn operators_add_templates_and_only_what_they_declare_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let text = X86_64
        .replace("<on_crash>", "<on_crash>{# {{ zone }} #}")
        .replace("<title>{{ name }}</title>", "<title>{{ name }} in {{ zone }}</title>");
    fs_err::write(dir.path().join("zoned.xml.j2"), text).unwrap();
    fs_err::write(dir.path().join("vars.json"), r#"{"zone": "where it stands"}"#).unwrap();
    fs_err::create_dir(dir.path().join("device")).unwrap();
    let disk = "<disk type='file' device='disk'><driver type='{{ format }}' cache='{{ cache }}'/>\
                <source file='{{ path }}'/><target dev='{{ target }}' bus='{{ bus }}'/></disk>";
    fs_err::write(dir.path().join("device/cached.xml.j2"), disk).unwrap();
    let about =
        r#"{"cache": {"help": "host cache", "default": "none", "one_of": ["none", "writeback"]}}"#;
    fs_err::write(dir.path().join("device/cached.vars.json"), about).unwrap();
    let templates = Templates::load(Some(dir.path())).unwrap();
    assert_eq!(templates.problems(), Vec::<String>::new());
    let zoned = ResourceName::parse("zoned").unwrap();
    assert_eq!(templates.domains()[&zoned]["zone"].help, "where it stands");
    let mut create =
        with(request(Arch::X86_64, Firmware::Bios), &[("zone", "a<b"), ("sound", "x")]);
    create.template = Some(zoned);
    // Without help of its own, `sound` is any text: libvirt and the policy judge it.
    assert!(render_with(&templates, &create).unwrap().contains(" in a&lt;b</title>"));
    for odd in ["nope", "uuid", "virt_type"] {
        let problem = render_with(&templates, &with(create.clone(), &[(odd, "x")])).unwrap_err();
        assert_eq!(problem.status, 422, "{odd}");
    }
    create.template = Some(ResourceName::parse("absent").unwrap());
    assert_eq!(render_with(&templates, &create).unwrap_err().status, 404);
    let cached = ResourceName::parse("cached").unwrap();
    let values =
        DiskValues { path: "/p/a", target: "vda", bus: "virtio", format: "raw", rbd: None };
    let disk = |cache: &str| {
        let variables = BTreeMap::from([("cache".to_owned(), cache.to_owned())]);
        let own = Own { template: Some(&cached), variables: &variables };
        templates.render_disk(&values, own)
    };
    assert!(disk("writeback").unwrap().contains("cache='writeback'"));
    assert_eq!(disk("unsafe").unwrap_err().status, 422);
}

#[test]
fn a_disk_on_ceph_names_its_pool_monitors_user_and_secret() {
    let pool = super::super::rbd::tests::pool();
    let path = pool.source("vda-6f5d8bf6-d580-4946-9541-13fa98b4acf4-00000000.raw");
    let (bus, format, rbd) = ("virtio", "raw", Some(&pool));
    let values = DiskValues { path: &path, target: "vda", bus, format, rbd };
    let none = BTreeMap::new();
    let templates = Templates::load(None).unwrap();
    let xml = templates.render_disk(&values, Own { template: None, variables: &none }).unwrap();
    golden("disk-rbd", &xml);
    let allowed = policy::Allowed { rbd: vec![&pool], ..policy::Allowed::default() };
    policy::check_fragment(&xml, &allowed).unwrap();
    assert!(policy::check_fragment(&xml, &logs()).is_err(), "a pool that is not configured");
}

#[test]
fn a_broken_file_is_named_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).unwrap();
    write("good.xml.j2", "<domain/>");
    write("broken.xml.j2", "<domain>{% if %}</domain>");
    write("x86_64.xml.j2", "<domain/>");
    write("bad name.xml.j2", "<domain/>");
    write("latin1.xml.j2", "");
    fs_err::write(dir.path().join("latin1.xml.j2"), b"\xff\xfe").unwrap();
    write("good.vars.json", "{");
    let templates = Templates::load(Some(dir.path())).unwrap();
    let problems = templates.problems().join("\n");
    for name in
        ["broken.xml.j2", "x86_64.xml.j2", "bad name.xml.j2", "latin1.xml.j2", "good.vars.json"]
    {
        assert!(problems.contains(name), "{name}: {problems}");
    }
    assert_eq!(templates.problems().len(), 5);
    let names: Vec<&str> = templates.domains().keys().map(ResourceName::as_str).collect();
    assert_eq!(names, ["aarch64", "good", "x86_64"]);
    assert!(render_with(&templates, &request(Arch::X86_64, Firmware::Bios)).is_ok());
}

#[test]
fn a_drive_holds_what_it_is_told() {
    let templates = Templates::load(None).unwrap();
    let iso = |url: &str, tls_verify| {
        let url = vmmgr_common::api::iso::IsoUrl::parse(url).unwrap();
        Inserted::Network(super::super::cdrom::NetworkIso { url, tls_verify })
    };
    let render = |inserted: &Inserted| templates.render_cdrom(inserted, "sda", "sata").unwrap();
    golden("cdrom-https", &render(&iso("https://iso.test/a/b.iso", true)));
    golden("cdrom-http", &render(&iso("http://[2001:db8::1]:81/b.iso", true)));
    golden("cdrom-file", &render(&Inserted::File("/srv/iso/a&b.iso".to_owned())));
    assert!(render(&iso("https://iso.test/b.iso", false)).contains("<ssl verify='no'/>"));
    assert!(!render(&Inserted::Nothing).contains("<source"));
    for inserted in
        [iso("https://iso.test/a/b.iso", false), iso("http://[2001:db8::1]:81/b.iso", true)]
    {
        let xml = format!("<domain><devices>{}</devices></domain>", render(&inserted));
        let found = super::super::target::find_device(&xml, "sda").unwrap();
        assert_eq!(found.inserted, Some(inserted));
    }
}
