//! A whole toolcrib whose processes show each other certificates, and an edge that clients reach over TLS.

use std::{fs, path::Path};

use node::config::{Role, Settings};
use proto::{audit::v1::QueryTrailRequest, permissions::v1::WhoAmIRequest};
use serde_json::json;
use testkit::{Authority, Pair};
use tests::{Client, HttpTool, Mode, Suite, Upstream, block_on, eventually};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The name in every certificate.
const NAME: &str = "toolcrib.internal";

fn write(folder: &Path, name: &str, pair: &Pair, authority: &Authority) {
    fs::write(folder.join(format!("{name}.crt")), &pair.certificate_pem).unwrap();
    fs::write(folder.join(format!("{name}.key")), &pair.key_pem).unwrap();
    fs::write(folder.join(format!("{name}-ca.pem")), authority.pem()).unwrap();
}

fn between_processes(settings: &mut Settings, folder: &Path) {
    settings.tls.certificate_file = folder.join("processes.crt");
    settings.tls.key_file = folder.join("processes.key");
    settings.tls.ca_file = folder.join("processes-ca.pem");
    settings.tls.server_name = NAME.into();
}

fn channel(address: std::net::SocketAddr, tls: ClientTlsConfig) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls.domain_name(NAME)).unwrap().connect_lazy()
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[test]
fn processes_that_show_certificates_work_as_any_and_let_in_nobody_else() {
    block_on(async {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        write(folder.path(), "processes", &authority.issue(NAME), &authority);
        let suite =
            Suite::start_with(Mode::Split, |settings| between_processes(settings, folder.path())).await;
        let upstream = Upstream::start().await;
        let agent = suite.agent_with(HttpTool::new("secured", upstream.url("/echo"))).await;
        agent.call("secured", json!({})).await;
        let trail =
            suite.trail(QueryTrailRequest { tool_name: "secured".into(), ..Default::default() }).await;
        assert!(!trail.is_empty());

        let foreign = Authority::new();
        let pair = foreign.issue(NAME);
        let stranger = trusting(&authority).identity(Identity::from_pem(pair.certificate_pem, pair.key_pem));
        let own = authority.issue(NAME);
        let known = trusting(&authority).identity(Identity::from_pem(own.certificate_pem, own.key_pem));
        for (role, address) in suite.addresses.iter().filter(|(role, _)| *role != Role::Edge) {
            let role = role.as_str();
            assert!(Client::new(*address).health("").await.is_err(), "{role} in the clear");
            let without = Client::over(channel(*address, trusting(&authority)));
            assert!(without.health("").await.is_err(), "{role} without a certificate");
            let foreign = Client::over(channel(*address, stranger.clone()));
            assert!(foreign.health("").await.is_err(), "{role} with a foreign certificate");
            // The same question, with the right one: it is the certificate that was missing.
            Client::over(channel(*address, known.clone())).health("").await.unwrap();
        }
        suite.stop().await;
    });
}

#[test]
fn clients_reach_an_edge_over_tls_and_may_have_to_show_a_certificate() {
    block_on(async {
        for asks_for_certificates in [false, true] {
            let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
            write(folder.path(), "edge", &authority.issue(NAME), &authority);
            let edit = |settings: &mut Settings| {
                settings.edge.tls.certificate_file = folder.path().join("edge.crt");
                settings.edge.tls.key_file = folder.path().join("edge.key");
                if asks_for_certificates {
                    settings.edge.tls.client_ca_file = folder.path().join("edge-ca.pem");
                }
            };
            let suite = Suite::start_unwatched(Mode::AllInOne, edit).await;
            let own = authority.issue("client");
            let identity = Identity::from_pem(own.certificate_pem, own.key_pem);
            let shown = trusting(&authority).identity(identity);
            let client = Client::over(channel(suite.edge, shown)).with_key("admin", &suite.admin.key);
            eventually("the edge serves", async || client.health("").await.ok()).await;
            let me = client.permissions().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
            assert_eq!(me.agent_id, "admin");
            assert!(Client::new(suite.edge).health("").await.is_err(), "in the clear");
            let without = Client::over(channel(suite.edge, trusting(&authority))).health("").await;
            assert_eq!(without.is_err(), asks_for_certificates, "without a certificate");
            suite.stop().await;
        }
    });
}
