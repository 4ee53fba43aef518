//! `linux.netDevices`: devices of the host that become a container's. One end of a pair of
//! virtual cables stands for all kinds.

use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::wait;

checks!("netdevices":
    a_device_moves_with_its_name_its_addresses_its_mtu_and_its_hardware_address,
    a_device_gets_the_name_that_is_asked_for,
    a_name_may_leave_a_number_to_the_kernel,
    a_device_that_was_down_is_up_in_the_container,
    only_permanent_addresses_of_global_scope_move,
    an_address_keeps_its_peer_and_its_flags,
    several_devices_move,
    two_devices_of_one_name_are_refused_before_any_moves,
    a_device_moves_into_a_user_namespace,
    a_device_stays_in_a_joined_network_when_the_container_is_gone,
    a_number_that_is_taken_in_a_joined_network_is_no_obstacle,
    a_device_that_can_not_move_is_an_error_that_names_it,
    a_name_that_is_taken_in_the_container_is_an_error,
    a_create_that_fails_gives_the_devices_back,
    devices_without_a_network_namespace_are_refused,
);

/// Runs `ip` with these words.
fn ip(words: &str) -> String {
    output("ip", words)
}

/// What `ip` says in the network namespace of a process.
fn ip_of(pid: impl std::fmt::Display, words: &str) -> Value {
    let text = output(
        "nsenter",
        &format!("--net=/proc/{pid}/ns/net ip -json {words}"),
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn output(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {words}: {output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// A cable: `name` and `name-far`, both in the lane's network.
struct Cable(&'static str);

impl Cable {
    fn new(name: &'static str) -> Cable {
        ip(&format!("link add {name} type veth peer name {name}-far"));
        Cable(name)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Gone with its other end, which a container had.
        let far = format!("{}-far", self.0);
        let gone = Command::new("ip").args(["link", "delete", &far]).output();
        if let Err(error) = gone {
            eprintln!("{far}: {error}");
        }
    }
}

fn bundle(lab: &Lab, devices: Value) -> Bundle {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]["netDevices"] = devices;
    bundle
}

/// Gives a device an address of IPv6, if the kernel knows that.
fn add_ipv6(name: &str) -> Option<&'static str> {
    let address = "2001:db8::5/64";
    std::path::Path::new("/proc/net/if_inet6")
        .exists()
        .then(|| {
            ip(&format!("address add {address} dev {name} nodad"));
            address
        })
}

/// A device of a container, as `ip address` tells.
fn device(container: &Container<'_>, name: &str) -> Value {
    let all = ip_of(container.pid(), "address");
    crate::facts::entry(&all, "ifname", name).clone()
}

/// `10.0.0.2/24` and the like, without those that the kernel makes up itself.
fn addresses(device: &Value) -> Vec<String> {
    let all = device["addr_info"].as_array().expect("a list").iter();
    let global = all.filter(|address| address["scope"] == "global");
    let text = |address: &Value| {
        format!(
            "{}/{}",
            address["local"].as_str().unwrap_or_default(),
            address["prefixlen"]
        )
    };
    global.map(text).collect()
}

fn is_up(device: &Value) -> bool {
    crate::facts::has(&device["flags"], "UP")
}

fn a_device_moves_with_its_name_its_addresses_its_mtu_and_its_hardware_address(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("link set cable address 02:00:00:00:00:07 mtu 1400 up");
    ip("address add 10.9.8.7/24 broadcast 10.9.8.255 dev cable");
    ip("address add 10.9.8.8/24 dev cable");
    let six = add_ipv6("cable");
    let bundle = bundle(lab, json!({"cable": {}}));
    let container = lab.start(&bundle);
    let inside = device(&container, "cable");
    assert_eq!(inside["address"], "02:00:00:00:00:07");
    assert_eq!(inside["mtu"], 1400);
    assert!(is_up(&inside), "{inside:#}");
    let four = ["10.9.8.7/24", "10.9.8.8/24"].into_iter();
    assert_eq!(addresses(&inside), four.chain(six).collect::<Vec<_>>());
    let four = crate::facts::entry(&inside["addr_info"], "local", "10.9.8.7");
    assert_eq!(four["broadcast"], "10.9.8.255");
    let outside = ip("-json link");
    assert!(!outside.contains("\"cable\""), "{outside}");
    drop(cable);
}

fn a_device_gets_the_name_that_is_asked_for(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("address add 10.9.8.7/24 dev cable");
    let bundle = bundle(lab, json!({"cable": {"name": "eth0"}}));
    let container = lab.start(&bundle);
    assert_eq!(addresses(&device(&container, "eth0")), ["10.9.8.7/24"]);
    drop(cable);
}

fn a_name_may_leave_a_number_to_the_kernel(lab: &Lab) {
    let cables = [Cable::new("one"), Cable::new("two")];
    ip("address add 10.9.8.1/24 dev one");
    let devices = json!({"one": {"name": "net%d"}, "two": {"name": "net%d"}});
    let bundle = bundle(lab, devices);
    let container = lab.start(&bundle);
    let inside = ["net0", "net1"].map(|name| device(&container, name));
    assert!(inside.iter().all(is_up), "{inside:#?}");
    let all: Vec<String> = inside.iter().flat_map(addresses).collect();
    assert_eq!(all, ["10.9.8.1/24"]);
    drop(cables);
}

fn a_device_that_was_down_is_up_in_the_container(lab: &Lab) {
    let cable = Cable::new("cable");
    let bundle = bundle(lab, json!({"cable": {}}));
    let container = lab.start(&bundle);
    assert!(is_up(&device(&container, "cable")));
    drop(cable);
}

fn only_permanent_addresses_of_global_scope_move(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("link set cable up");
    ip("address add 10.9.8.1/24 dev cable");
    ip("address add 10.9.8.2/24 dev cable valid_lft 3600 preferred_lft 3600");
    ip("address add 10.9.7.3/24 dev cable scope link");
    let bundle = bundle(lab, json!({"cable": {}}));
    let container = lab.start(&bundle);
    let inside = device(&container, "cable");
    assert_eq!(addresses(&inside), ["10.9.8.1/24"]);
    let text = inside.to_string();
    assert!(
        !text.contains("10.9.8.2") && !text.contains("10.9.7.3"),
        "{text}"
    );
    drop(cable);
}

fn an_address_keeps_its_peer_and_its_flags(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("address add 10.9.8.1 peer 10.9.7.1/32 dev cable");
    ip("address add 10.1.1.1/24 dev cable noprefixroute metric 77");
    let bundle = bundle(lab, json!({"cable": {}}));
    let container = lab.start(&bundle);
    let inside = device(&container, "cable");
    let info = &inside["addr_info"];
    assert_eq!(
        crate::facts::entry(info, "local", "10.9.8.1")["address"],
        "10.9.7.1"
    );
    let plain = crate::facts::entry(info, "local", "10.1.1.1");
    assert_eq!(plain["noprefixroute"], true);
    assert_eq!(plain["metric"], 77);
    drop(cable);
}

fn several_devices_move(lab: &Lab) {
    let cables = || [Cable::new("one"), Cable::new("two"), Cable::new("three")];
    let bundle = bundle(lab, json!({"one": {}, "two": {}, "three": {"name": "3"}}));
    let all_are_up = |pid: u64| {
        let all = ip_of(pid, "address");
        for name in ["one", "two", "3"] {
            assert!(is_up(crate::facts::entry(&all, "ifname", name)), "{name}");
        }
    };
    let moved = cables();
    let container = lab.start(&bundle);
    all_are_up(container.pid());
    drop((container, moved));
    let moved = cables();
    drop(lab.command(&["run", "--detach"], &bundle, "ran").ok());
    let pid = lab.runtime.call(&["state", "ran"]).json()["pid"].as_u64();
    all_are_up(pid.expect("a pid"));
    drop(lab.runtime.call(&["delete", "--force", "ran"]).ok());
    drop(moved);
}

fn two_devices_of_one_name_are_refused_before_any_moves(lab: &Lab) {
    let cables = [Cable::new("one"), Cable::new("two")];
    let mut bundle = bundle(lab, json!({"one": {}, "two": {"name": "one"}}));
    refused(lab, &mut bundle, ["linux.netDevices.two.name: ", "one"]);
    ip("link show one");
    ip("link show two");
    drop(cables);
}

fn a_device_moves_into_a_user_namespace(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("address add 10.9.8.7/24 dev cable");
    let mut bundle = bundle(lab, json!({"cable": {"name": "eth0"}}));
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][field] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    }
    bundle.give_to(100_000).expect("root may");
    let container = lab.start(&bundle);
    let inside = device(&container, "eth0");
    assert!(is_up(&inside));
    assert_eq!(addresses(&inside), ["10.9.8.7/24"]);
    drop(cable);
}

/// A network namespace that a process keeps.
struct Network(Child);

impl Network {
    fn new() -> Network {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .spawn();
        let network = Network(child.expect("unshare is there"));
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let apart = wait::until(wait::CALL, || {
            (link(&network.0.id().to_string()) != link("self")).then_some(())
        });
        assert!(apart.is_some(), "it stays in this network");
        network
    }

    fn join(&self, bundle: &mut Bundle) {
        bundle.without_namespace("network");
        let path = format!("/proc/{}/ns/net", self.0.id());
        bundle.push(
            "/linux/namespaces",
            json!({"type": "network", "path": path}),
        );
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("process {} does not end", self.0.id());
        }
    }
}

fn a_device_stays_in_a_joined_network_when_the_container_is_gone(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("address add 10.9.8.7/24 dev cable");
    let network = Network::new();
    let mut bundle = bundle(lab, json!({"cable": {}}));
    network.join(&mut bundle);
    let container = lab.start(&bundle);
    drop(container.call(&["delete", "--force"]).ok());
    let all = ip_of(network.0.id(), "address");
    let left = crate::facts::entry(&all, "ifname", "cable");
    assert_eq!(addresses(left), ["10.9.8.7/24"]);
    drop(cable);
}

fn a_number_that_is_taken_in_a_joined_network_is_no_obstacle(lab: &Lab) {
    let cable = Cable::new("cable");
    ip("address add 10.9.8.7/24 dev cable");
    let links: Value = serde_json::from_str(&ip("-json link")).expect("it is JSON");
    let index = &crate::facts::entry(&links, "ifname", "cable")["ifindex"];
    let network = Network::new();
    let words = format!(
        "--net=/proc/{}/ns/net ip link add taken index {index} type veth peer name other",
        network.0.id()
    );
    output("nsenter", &words);
    let mut bundle = bundle(lab, json!({"cable": {}}));
    network.join(&mut bundle);
    let container = lab.start(&bundle);
    let inside = device(&container, "cable");
    assert_eq!(addresses(&inside), ["10.9.8.7/24"]);
    assert!(is_up(&inside) && inside["ifindex"] != *index, "{inside:#}");
    assert!(!is_up(&device(&container, "taken")));
    drop(cable);
}

fn refused(lab: &Lab, bundle: &mut Bundle, words: [&str; 2]) {
    bundle.probe(&["true"]);
    let output = lab.run(bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = output.stderr();
        let [start, rest] = words;
        assert!(text.starts_with(&format!("corten: {start}")), "{output}");
        assert!(text.contains(rest), "{output}");
    }
}

fn a_device_that_can_not_move_is_an_error_that_names_it(lab: &Lab) {
    let mut missing = bundle(lab, json!({"nowhere": {}}));
    refused(
        lab,
        &mut missing,
        ["linux.netDevices.nowhere: ", "no such device"],
    );
    let mut loopback = bundle(lab, json!({"lo": {"name": "lo2"}}));
    refused(
        lab,
        &mut loopback,
        ["linux.netDevices.lo: ", "invalid argument"],
    );
}

fn a_name_that_is_taken_in_the_container_is_an_error(lab: &Lab) {
    let cable = Cable::new("cable");
    let mut bundle = bundle(lab, json!({"cable": {"name": "lo"}}));
    refused(
        lab,
        &mut bundle,
        ["linux.netDevices.cable: ", "file exists"],
    );
    ip("link show cable");
    drop(cable);
}

fn a_create_that_fails_gives_the_devices_back(lab: &Lab) {
    let cables = [Cable::new("one"), Cable::new("two")];
    ip("link set one up");
    ip("address add 10.9.8.7/24 dev one");
    let six = add_ipv6("one");
    let mut bundle = bundle(lab, json!({"one": {"name": "eth0"}, "two": {}}));
    bundle.push(
        "/mounts",
        json!({"destination": "/late", "type": "nonsense", "source": "none"}),
    );
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    let all: Value = serde_json::from_str(&ip("-json address")).expect("it is JSON");
    let one = crate::facts::entry(&all, "ifname", "one");
    assert!(is_up(one), "{one:#}");
    let four = ["10.9.8.7/24"].into_iter();
    assert_eq!(addresses(one), four.chain(six).collect::<Vec<_>>());
    assert!(!is_up(crate::facts::entry(&all, "ifname", "two")));
    drop(cables);
}

fn devices_without_a_network_namespace_are_refused(lab: &Lab) {
    let cable = Cable::new("cable");
    let mut bundle = bundle(lab, json!({"cable": {}}));
    bundle.without_namespace("network");
    bundle.without_mount("/sys");
    refused(
        lab,
        &mut bundle,
        ["linux.netDevices: needs a network namespace", ""],
    );
    let host = json!({"type": "network", "path": "/proc/1/ns/net"});
    bundle.push("/linux/namespaces", host);
    refused(
        lab,
        &mut bundle,
        ["linux.netDevices: needs a network namespace", "host"],
    );
    ip("link show cable");
    drop(cable);
}
