ln -sf /usr/bin/containerd /usr/local/bin/containerd
mkdir -p /opt/cni /etc/kubernetes/manifests /lib/modules
ln -sfn /usr/lib/cni /opt/cni/bin
ctr oci spec | jq 'del(.process.rlimits)' >/etc/containerd/cri-base.json
sed -i 's|registry.k8s.io/pause:[0-9.]*|registry.k8s.io/pause:3.10.2|; s|restrict_oom_score_adj = false|restrict_oom_score_adj = true|' /etc/containerd/config.toml
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* /lib/systemd/system/local-fs.target.wants/*
rm -f /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/*
rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
echo ReadKMsg=no >>/etc/systemd/journald.conf
systemctl enable kubelet.service containerd.service undo-mount-hacks.service node.service
systemctl mask systemd-binfmt.service
