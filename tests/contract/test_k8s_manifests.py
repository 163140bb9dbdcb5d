"""The Kubernetes manifests: built by kustomize, valid by schema, and within our rules."""

import json
import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
from pydantic import SecretStr

from infra.local.servers import notification_environment
from services.common.runtime.settings import MongoSettings
from services.provisioner.broker_users import with_users
from services.provisioner.settings import UsersSettings
from tests.support.compose import ROOT, parsed
from tests.support.kubernetes import KUBERNETES_FOLDER, OVERLAYS, build, built, of_kind, workloads

KUBERNETES = "1.34"
FOREIGN = {
    "rabbitmq.com/v1beta1",
    "mongodbcommunity.mongodb.com/v1",
    "keda.sh/v1alpha1",
}
"""Kinds of operators: kubernetes-validate has no schema of them."""

SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")


EACH = pytest.mark.parametrize("overlay", OVERLAYS)


def settings_of(overlay: str) -> dict[str, str]:
    [settings] = [
        each["data"]
        for name, each in of_kind(overlay, "ConfigMap").items()
        if name.startswith("docreco-settings")
    ]
    return dict(settings)


@EACH
def test_manifests_are_valid(overlay: str) -> None:
    foreign = set()
    for manifest in built(overlay):
        if manifest["apiVersion"] in FOREIGN:
            foreign.add(manifest["apiVersion"])
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert foreign == FOREIGN


@EACH
def test_pods_keep_the_restricted_standard(overlay: str) -> None:
    for name, template in workloads(overlay).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all("hostPath" not in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


@EACH
def test_containers_are_bounded_and_pinned(overlay: str) -> None:
    for name, template in workloads(overlay).items():
        for container in template["spec"]["containers"]:
            assert container["resources"]["limits"]["memory"], name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert container["image"].rpartition(":")[2] not in {"", "latest"}
            assert ":" in container["image"]


@EACH
def test_one_reconciler_runs_at_a_time(overlay: str) -> None:
    reconciler = of_kind(overlay, "Deployment")["reconciler"]["spec"]
    assert reconciler["replicas"] == 1
    assert reconciler["strategy"] == {"type": "Recreate"}


@EACH
def test_nothing_may_talk_unless_it_is_said(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    deny = policies["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in workloads(overlay):
        assert name in policies


@pytest.mark.parametrize(
    ("name", "ports", "servers"),
    [
        ("reconciler", {5672, 27017, 9000}, ("rabbitmq", "mongo", "minio")),
        ("review", {5672, 27017, 9000, 8081, 9090}, ("rabbitmq", "mongo", "minio", "fetcher")),
        ("ocr-api", {9000, 80, 443}, ("minio",)),
    ],
)
def test_service_reaches_its_servers_and_they_let_it_in(
    name: str, ports: set[int], servers: tuple[str, ...]
) -> None:
    policies = of_kind("local", "NetworkPolicy")
    reached = {port["port"] for rule in policies[name]["spec"]["egress"] for port in rule["ports"]}
    assert reached == ports
    for server in ("rabbitmq", "mongo", "minio", "fetcher"):
        lets_in = f'"{name}"' in json.dumps(policies[server]["spec"]["ingress"])
        assert lets_in == (server in servers), server
    outside = of_kind("production", "NetworkPolicy")["object-store"]["spec"]["podSelector"]
    assert name in outside["matchExpressions"][0]["values"]


@EACH
def test_only_who_fetches_urls_reaches_public_addresses(overlay: str) -> None:
    reaching = set()
    for name, policy in of_kind(overlay, "NetworkPolicy").items():
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    reaching.add(name)
                    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"])
    assert reaching == {"fetcher", "ocr-api"}


@EACH
def test_images_of_requests_are_kept_by_a_user_of_its_own(overlay: str) -> None:
    [container] = workloads(overlay)["ocr-api"]["spec"]["containers"]
    users = {
        each["valueFrom"]["secretKeyRef"]["name"]
        for each in container["env"]
        if each["name"].startswith("S3_")
    }

    assert users == {"docreco-s3-ocr-api"}
    assert settings_of(overlay)["OCR_COLLECT"] == "1"


@EACH
def test_provisioner_may_set_the_schemas_of_mongodb(overlay: str) -> None:
    [user] = of_kind(overlay, "MongoDBCommunity")["mongo"]["spec"]["users"]

    # readWrite has no collMod (MongoDB's manual, Built-In Roles)
    assert {each["name"] for each in user["roles"]} == {"readWrite", "dbAdmin"}
    assert {each["db"] for each in user["roles"]} == {MongoSettings().database}


@EACH
def test_secrets_are_there_by_reference_only(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for template in workloads(overlay).values():
        for container in template["spec"]["containers"]:
            for variable in container["env"]:
                value = variable.get("value", "")
                if SECRET.search(variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
                assert "@" not in value or "$(" in value, variable["name"]


@EACH
def test_services_refuse_local_passwords_where_they_should(overlay: str) -> None:
    assert settings_of(overlay)["DOCRECO_ENV"] == overlay


@EACH
def test_rights_in_rabbitmq_are_those_of_the_provisioner(overlay: str) -> None:
    password = SecretStr("some-password")
    users = UsersSettings(
        fetcher_password=password,
        consumer_password=password,
        reconciler_password=password,
        segmenter_password=password,
        review_password=password,
        minio_password=password,
        monitoring_password=password,
    )
    expected = {
        each["user"]: {kind: each[kind] for kind in ("configure", "write", "read")}
        for each in json.loads(with_users(b"{}", users))["permissions"]
    }
    found = {
        each["spec"]["userReference"]["name"]: each["spec"]["permissions"]
        for each in of_kind(overlay, "Permission").values()
    }
    assert found == expected
    assert of_kind(overlay, "User").keys() == expected.keys()


def test_minio_notifies_as_it_does_elsewhere() -> None:
    [container] = workloads("local")["minio"]["spec"]["containers"]
    found = {each["name"]: each.get("value", "") for each in container["env"]}
    url = found["MINIO_NOTIFY_AMQP_URL_RAW"]
    expected = notification_environment(url, queue_dir="/data/events")

    assert {name: found[name] for name in expected} == expected


def test_images_are_those_of_compose() -> None:
    services = parsed()["services"]
    [minio] = workloads("local")["minio"]["spec"]["containers"]
    [rabbitmq] = of_kind("local", "RabbitmqCluster").values()
    [mongo] = of_kind("local", "MongoDBCommunity").values()

    assert minio["image"] == services["minio"]["image"]
    assert rabbitmq["spec"]["image"] == services["rabbitmq"]["image"]
    assert mongo["spec"]["version"] == services["mongo"]["image"].rpartition(":")[2]


def test_store_outside_alone_reaches_rabbitmq_with_tls() -> None:
    service = of_kind("production", "Service")["rabbitmq-events"]["spec"]
    policy = of_kind("production", "NetworkPolicy")["object-store-events"]["spec"]
    [rule] = policy["ingress"]
    [peer] = rule["from"]

    assert service["type"] == "LoadBalancer"
    assert service["externalTrafficPolicy"] == "Local"  # keeps the address that the policy knows
    assert service["loadBalancerSourceRanges"] == [peer["ipBlock"]["cidr"]]
    assert service["selector"] == policy["podSelector"]["matchLabels"]
    assert [port["port"] for port in rule["ports"]] == [5671]
    assert [port["targetPort"] for port in service["ports"]] == [5671]
    [rabbitmq] = of_kind("production", "RabbitmqCluster").values()
    assert rabbitmq["spec"]["tls"]["secretName"]
    assert "tls" not in next(iter(of_kind("local", "RabbitmqCluster").values()))["spec"]


def test_documented_secrets_are_those_that_are_referred_to() -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    for overlay in OVERLAYS:
        referred = set(re.findall(r'"(docreco-[a-z0-9-]+)"', json.dumps(built(overlay))))
        own = {name for name in referred if name.startswith(("docreco-settings", "docreco-minio:"))}
        for secret in referred - own - {"docreco-mongo-scram"}:
            last = secret.rpartition("-")[2]
            assert f"`{secret}`" in text or f"`-{last}`" in text, secret


@EACH
def test_components_give_trained_models_and_a_candidate(overlay: str, tmp_path: Path) -> None:
    folder = shutil.copytree(KUBERNETES_FOLDER, tmp_path / "k8s")
    file = folder / "overlays" / overlay / "kustomization.yaml"
    settings = "      - DOCRECO_ENV="
    file.write_text(
        file.read_text().replace(settings, f"      - SHADOW_MODEL=lines-2\n{settings}")
        + "components: [../../components/models, ../../components/shadow]\n"
    )
    made = {(each["kind"], each["metadata"]["name"]): each for each in build(file.parent)}
    before = {(each["kind"], each["metadata"]["name"]) for each in built(overlay)}
    new = {key for key in made.keys() - before if key[0] != "ConfigMap"}
    shadow = ("Deployment", "NetworkPolicy", "Service")

    assert new == {
        ("PersistentVolumeClaim", "docreco-models"),
        *((kind, "ocr-api-shadow") for kind in shadow),
    }
    deployments = {name: made["Deployment", name] for name in ("ocr-api", "review", "consumer")}
    for each in (*(made[key] for key in new), *deployments.values()):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    deployments["candidate"] = made["Deployment", "ocr-api-shadow"]
    api, review, consumer, candidate = (
        each["spec"]["template"]["spec"]["containers"][0] for each in deployments.values()
    )
    mount = {"name": "models", "mountPath": "/srv/docreco/.models", "readOnly": True}
    for each in (api, review, candidate):
        assert mount in each["volumeMounts"]
    [model] = [each for each in candidate["env"] if each["name"] == "OCR_MODEL"]
    reference = model["valueFrom"]["configMapKeyRef"]
    assert made["ConfigMap", reference["name"]]["data"][reference["key"]] == "lines-2"
    url = {"name": "CONSUMER_SHADOW_URL", "value": "http://ocr-api-shadow:8080"}
    assert url in consumer["env"]
    reached = json.dumps(made["NetworkPolicy", "consumer"]["spec"]["egress"])
    assert '"ocr-api-shadow"' in reached
