"""Debian's cloud-init as a reader of media, without being installed: on a host that starts it, it would set up that host."""
import contextlib
import glob
import io
import logging
import os
import subprocess
import sys
import tempfile


class CloudInit:
    """The package's modules, of a copy that is fetched for one test run."""

    def __init__(self, folder):
        self.folder = folder
        os.chmod(folder, 0o755)
        r = subprocess.run(["apt-get", "download", "-qq", "cloud-init"], cwd=folder, capture_output=True, text=True)
        packages = glob.glob(folder + "/*.deb")
        assert packages, f"cloud-init cannot be fetched: {r.stderr}"
        subprocess.run(["dpkg", "-x", packages[0], folder + "/tree"], check=True)
        sys.path.insert(0, folder + "/tree/usr/lib/python3/dist-packages")
        sys.dont_write_bytecode = True
        self.said = io.StringIO()
        logging.getLogger("cloudinit").addHandler(logging.StreamHandler(self.said))

    def read(self, folder, drive):
        """What a guest would get of the files in folder: (metadata, network, merged configuration, parts)."""
        from cloudinit import helpers, stages, util
        from cloudinit.sources import DataSourceConfigDrive, DataSourceNoCloud

        class Init(stages.Init):
            def _reset(self, reset_ds=False):
                """Or it would look for its configuration and its directories on this host."""

        place = tempfile.mkdtemp(dir=self.folder)
        paths = helpers.Paths({"cloud_dir": place + "/lib", "run_dir": place + "/run"})
        init = Init()
        init._cfg = {"system_info": {"distro": "debian", "paths": paths.cfgs}, "datasource": {}, "vendor_data": {"enabled": True}}
        init._paths = paths
        util.ensure_dirs(init._initial_subdirs())
        if drive:
            ds = DataSourceConfigDrive.DataSourceConfigDrive({}, init.distro, paths)
            found = DataSourceConfigDrive.read_config_drive(folder)
            assert found["version"] == 2, found
            ds.metadata, ds.userdata_raw = found["metadata"], found.get("userdata")
            ds.vendordata_pure = found.get("vendordata")
            ds.vendordata_raw = DataSourceConfigDrive.sources.convert_vendordata(ds.vendordata_pure)
            ds.network_json = found.get("networkdata")
            ds.known_macs = {"02:00:00:00:00:05": "eth0", "02:00:00:00:00:06": "eth1"}
            network = DataSourceConfigDrive.openstack.convert_net_json(ds.network_json, known_macs=ds.known_macs)
        else:
            ds = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, init.distro, paths)
            ds.seed_dirs = [folder]
            assert ds._get_data(), "cloud-init does not take it"
            network = ds.network_config
        init.datasource = paths.datasource = ds
        init._reflect_cur_instance()
        init.update()
        with contextlib.redirect_stdout(io.StringIO()):
            init.consume_data()
        config = util.read_conf(paths.get_ipath("cloud_config"))
        scripts = []
        for script in sorted(glob.glob(paths.get_ipath("scripts") + "/*")):
            with open(script) as f:
                scripts.append(f.read())
        vendor = util.read_conf(paths.get_ipath("vendor_cloud_config"))
        return ds.metadata, network, config, vendor, scripts

    def check(self, config):
        """Against cloud-init's own schema, strictly."""
        from cloudinit.config import schema
        schema.validate_cloudconfig_schema(config, schema.get_schema(), strict=True)

    def render(self, path, drive, renderer):
        """The files that a distribution with this renderer gets of a network description: all texts in one."""
        from cloudinit.cmd.devel import net_convert
        place = tempfile.mkdtemp(dir=self.folder)
        distro = {"eni": "debian", "netplan": "ubuntu", "networkd": "arch", "sysconfig": "rhel"}[renderer]
        args = ["-p", path, "-k", "network_data.json" if drive else "yaml", "-d", place, "-D", distro, "-O", renderer,
                "-m", "eth0,02:00:00:00:00:05", "-m", "eth1,02:00:00:00:00:06"]
        with contextlib.redirect_stderr(self.said):
            net_convert.handle_args("net-convert", net_convert.get_parser().parse_args(args))
        texts = []
        for folder, _, files in os.walk(place):
            for name in sorted(files):
                with open(os.path.join(folder, name)) as f:
                    texts.append(f.read())
        return "\n".join(texts)
