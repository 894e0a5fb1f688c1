"""What the chart refuses, by the name of the value that is wrong."""

import pytest

from kit.chart import IMAGE, refusal

HASH = "$2y$05$MuyU0xBgNLGTZIQLqYyHzOyBSYCPlYgYGuHuFrrqmoPYt9UUgqlRG"
KEEP = {"enabled": True, "config": {"keeps": []}}


def test_without_an_image_there_is_no_chart():
    assert "image.repository" in refusal({})


@pytest.mark.parametrize("values, words", [
    # wrong keys and types
    ({"replcas": 2}, ["replcas"]),
    ({"service": {"nodeprt": 30500}}, ["/service", "nodeprt"]),
    ({"storage": {"emptyDir": {"enbled": True}}}, ["/storage/emptyDir", "enbled"]),
    ({"replicas": "two"}, ["/replicas", "integer"]),
    ({"storage": {"retain": "no"}}, ["/storage/retain", "boolean"]),
    ({"storage": {"size": "200 GB"}}, ["/storage/size"]),
    ({"kind": "ReplicaSet"}, ["/kind"]),
    ({"files": [{"secret": "a"}]}, ["/files/0", "at"]),
    ({"image": {"repository": "a", "digest": "sha256:abc"}}, ["/image/digest"]),
    # users and certificates
    ({"clients": {"htpasswd": f"a:{HASH}", "existingSecret": "b"}},
     ["clients.htpasswd", "clients.existingSecret"]),
    ({"clients": {"htpasswd": "/etc/htpasswd"}}, ["clients.htpasswd", "line 1", "htpasswd -nB"]),
    ({"clients": {"htpasswd": f"a:{HASH}\nbob:clear-text"}}, ["clients.htpasswd", "line 2"]),
    ({"tls": {"existingSecret": "a", "certManager": {"enabled": True, "issuerRef": {"name": "b"}}}},
     ["tls.existingSecret", "tls.certManager.enabled"]),
    ({"tls": {"certManager": {"enabled": True}}}, ["tls.certManager.issuerRef"]),
    ({"files": [{"secret": "a", "configMap": "b", "at": "/etc/tarn/a"}]}, ["files[0]"]),
    ({"files": [{"at": "/etc/tarn/a"}]}, ["files[0]", "secret", "configMap"]),
    ({"files": [{"secret": "a", "at": "/etc/tarn/tls"}]}, ["files[0].at", "/etc/tarn/tls"]),
    ({"files": [{"secret": "a", "at": "/etc/tarn/a"}, {"secret": "b", "at": "/etc/tarn/a"}]},
     ["files[1].at"]),
    # the configuration
    ({"config": {"max_age": "1d"}, "existingConfigMap": "a"}, ["config", "existingConfigMap"]),
    ({"config": {"keep": {}}}, ["config.keep", "keep.config"]),
    ({"config": {"root": "/var/lib/tarn"}}, ["config.root", "/var/lib/tarn"]),
    ({"config": {"root": "/srv"}}, ["config.root", "/srv"]),
    ({"config": {"listen": "127.0.0.1:5000"}}, ["config.listen", ":5000"]),
    ({"config": {"listen": ["localhost:5000"]}}, ["config.listen"]),
    ({"config": {"metrics_listen": "[::1]:5001"}}, ["config.metrics_listen"]),
    ({"config": {"listen": "0.0.0.0"}}, ["config.listen", "port"]),
    # the cache's place
    ({"kind": "Deployment", "replicas": 2}, ["kind: Deployment", "replicas: 2"]),
    ({"kind": "Deployment", "replicas": 2, "storage": {"existingClaim": "a"}}, ["kind: Deployment"]),
    ({"kind": "Deployment", "updateStrategy": {"type": "RollingUpdate"}}, ["updateStrategy.type"]),
    ({"storage": {"existingClaim": "a"}}, ["storage.existingClaim", "Deployment"]),
    ({"storage": {"emptyDir": {"enabled": True}}}, ["storage.emptyDir.enabled", "Deployment"]),
    ({"storage": {"hostPath": "/srv/tarn"}}, ["storage.hostPath", "DaemonSet"]),
    ({"kind": "DaemonSet"}, ["DaemonSet", "storage.hostPath", "storage.emptyDir.enabled"]),
    ({"kind": "DaemonSet", "replicas": 2, "storage": {"hostPath": "/srv/tarn"}}, ["replicas"]),
    ({"kind": "DaemonSet", "storage": {"hostPath": "/srv/tarn", "emptyDir": {"enabled": True}}},
     ["storage.hostPath", "storage.emptyDir.enabled"]),
    # replicas that share the work
    ({"replication": {"enabled": True}, "kind": "DaemonSet", "storage": {"hostPath": "/srv/tarn"}},
     ["replication.enabled", "Deployment"]),
    ({"replication": {"enabled": True}, "config": {"replicas": {"dns": "a"}}},
     ["config.replicas", "replication.enabled"]),
    ({"replication": {"enabled": True}, "tls": {"existingSecret": "a"}}, ["config.replicas.tls"]),
    ({"replication": {"existingSecret": "a"}}, ["replication.existingSecret", "replication.enabled"]),
    ({"replication": {"secret": "a"}}, ["/replication", "secret"]),
    # the way to the cache
    ({"service": {"nodePort": 30500}}, ["service.nodePort", "NodePort"]),
    ({"service": {"externalTrafficPolicy": "Local"}}, ["service.externalTrafficPolicy"]),
    ({"service": {"type": "NodePort", "clusterIP": "None"}}, ["service.clusterIP"]),
    ({"service": {"loadBalancerClass": "a"}}, ["service.loadBalancerClass"]),
    ({"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}, ["service.loadBalancerSourceRanges"]),
    ({"hostPort": 5000}, ["hostPort", "DaemonSet"]),
    ({"ingress": {"enabled": True}}, ["ingress.hosts"]),
    ({"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs"]),
    ({"podLabels": {"app.kubernetes.io/name": "a"}}, ["podLabels", "app.kubernetes.io/name"]),
    ({"commonLabels": {"app.kubernetes.io/instance": "a"}}, ["commonLabels"]),
    # monitoring
    ({"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
     ["monitoring.podMonitor.enabled", "monitoring.serviceMonitor.enabled"]),
    ({"monitoring": {"rules": {"enabled": True, "disabled": ["TarnDwon"]}}},
     ["monitoring.rules.disabled", "TarnDwon", "TarnDown"]),
    # the controller
    ({"keep": {"enabled": True}}, ["keep.config", "keep.machines"]),
    ({"keep": KEEP, "existingConfigMap": "a"}, ["keep.config", "existingConfigMap"]),
    ({"keep": {**KEEP, "config": {"keeps": [], "lease": "none"}}}, ["keep.config.lease", "keep.replicas"]),
    ({"keep": {**KEEP, "config": {"keeps": [], "namespace": "a"}}}, ["keep.config.namespace"]),
    ({"keep": {**KEEP, "config": {"keeps": [], "listen": "127.0.0.1:8080"}}}, ["keep.config.listen"]),
    ({"keep": {**KEEP, "ingress": {"enabled": True}}}, ["keep.ingress.hosts"]),
    ({"keep": KEEP, "config": {"proxy": {"remoteurl": "https://a.example"}}}, ["keep.enabled"]),
    # the nodes
    ({"nodes": {"enabled": True}}, ["nodes.enabled", "NodePort", "hostPort", "nodes.url"]),
    ({"nodes": {"enabled": True}, "service": {"type": "NodePort"}}, ["nodes.enabled", "service.nodePort"]),
    ({"nodes": {"enabled": True}, "service": {"type": "NodePort", "nodePort": 30500},
      "tls": {"existingSecret": "a"}}, ["nodes.url"]),
    ({"nodes": {"enabled": True, "url": "10.0.0.1:5000"}}, ["/nodes/url"]),
    ({"nodes": {"streaming": {"enabled": True}}}, ["nodes.enabled", "NodePort", "nodes.url"]),
    ({"nodes": {"streaming": {"enabled": True}}, "service": {"type": "NodePort", "nodePort": 30500}},
     ["nodes.streaming.enabled", "config.streaming.enabled"]),
    ({"nodes": {"url": "http://127.0.0.1:1", "streaming": {"enabled": True, "priorityClassName": ""}}},
     ["nodes.streaming.priorityClassName", "evicted"]),
    ({"nodes": {"url": "http://127.0.0.1:1",
                "streaming": {"enabled": True, "config": {"upstreams": [{"credentials": {"password": "x"}}]}}}},
     ["nodes.streaming.config.upstreams[0].credentials.password"]),
    ({"nodes": {"credentialProvider": {"enabled": True}}},
     ["nodes.credentialProvider.enabled", "nodes.enabled"]),
    ({"nodes": {"enabled": True, "url": "http://10.0.0.1:5000",
                "credentialProvider": {"enabled": True, "perPod": True}}},
     ["nodes.credentialProvider.perPod", "nodes.credentialProvider.audience"]),
    ({"nodes": {"enabled": True, "url": "http://10.0.0.1:5000", "ca": "/etc/ca.pem"}}, ["nodes.ca"]),
])
def test_what_cannot_work_is_refused_by_name(values, words):
    told = refusal({**IMAGE, **values})
    for word in words:
        assert word in told


@pytest.mark.parametrize("values, name", [
    ({"config": {"proxy": {"remoteurl": "https://a.example", "password": "geheim"}}},
     "config.proxy.password"),
    ({"config": {"upstreams": [{"host": "a.example", "credentials": {"password": "geheim"}}]}},
     "config.upstreams[0].credentials.password"),
    ({"config": {"http": {"secret": "geheim"}}}, "config.http.secret"),
    ({"config": {"version": 0.1, "storage": {"s3": {"accesskey": "a", "secretkey": "geheim"}}}},
     "config.storage.s3.secretkey"),
    ({"config": {"upstreams": [{"host": "a.example", "url": "https://me:geheim@a.example"}]}},
     "config.upstreams[0].url"),
    ({"google": {"credentialConfig": '{"type": "service_account", "private_key": "geheim"}'}},
     "google.credentialConfig"),
    ({"google": {"credentialConfig": "geheim"}}, "google.credentialConfig"),
    ({"clients": {"htpasswd": "alice:geheim"}}, "clients.htpasswd")])
def test_a_secret_in_the_wrong_place_is_refused_and_not_shown(values, name):
    told = refusal({**IMAGE, **values})
    assert name in told and "geheim" not in told
