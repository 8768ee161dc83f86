"""OVAs as other programs write them: their descriptors, and archives of them."""
import hashlib
import io
import subprocess
import tarfile

RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def envelope(body, more="", version=1):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="{version}.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/{version}"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/{version}" xmlns:rasd="{RASD}" xmlns:vssd="{VSSD}"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {more}>
{body}
</Envelope>
"""


def item(kind, id, prefix="rasd", element="Item", attributes="", **fields):
    inner = "".join(f"<{prefix}:{k}>{v}</{prefix}:{k}>" for k, v in fields.items())
    return f"<{element} {attributes}>{inner}<{prefix}:InstanceID>{id}</{prefix}:InstanceID><{prefix}:ResourceType>{kind}</{prefix}:ResourceType></{element}>"


def virtualbox(disk="box-disk001.vmdk", memory=64, cpus=2):
    """VirtualBox 6 and 7: a description of its own beside the items"""
    return envelope(f"""
<References><File ovf:id="file1" ovf:href="{disk}"/></References>
<DiskSection><Info>List of the virtual disks used in the package</Info>
<Disk ovf:capacity="16777216" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="{STREAM}" vbox:uuid="7b10fb32-6b1c-4c4a-b0c4-d5d1a9e1ab6c"/></DiskSection>
<NetworkSection><Info>Logical networks used in the package</Info>
<Network ovf:name="NAT"><Description>Logical network used by this appliance.</Description></Network></NetworkSection>
<VirtualSystem ovf:id="box"><Info>A virtual machine</Info>
<ProductSection><Info>Meta-information</Info><Product>box</Product><Vendor>somebody</Vendor></ProductSection>
<AnnotationSection><Info>A human-readable annotation</Info><Annotation>an appliance</Annotation></AnnotationSection>
<EulaSection><Info>License agreement</Info><License>none</License></EulaSection>
<OperatingSystemSection ovf:id="96"><Info>The kind of installed guest operating system</Info><Description>Debian_64</Description>
<vbox:OSType ovf:required="false">Debian_64</vbox:OSType></OperatingSystemSection>
<VirtualHardwareSection><Info>Virtual hardware requirements</Info>
<System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
<vssd:VirtualSystemIdentifier>box</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>
{item(3, 1, Caption=f"{cpus} virtual CPU", VirtualQuantity=cpus)}
{item(4, 2, AllocationUnits="MegaBytes", Caption=f"{memory} MB of memory", VirtualQuantity=memory)}
{item(5, 3, Address=0, Caption="ideController0", ResourceSubType="PIIX4")}
{item(20, 5, Address=0, Caption="sataController0", ResourceSubType="AHCI")}
{item(23, 6, Address=0, Caption="usb", Description="USB Controller")}
{item(35, 7, AddressOnParent=3, AutomaticAllocation="false", Caption="sound", ResourceSubType="ensoniq1371")}
{item(15, 8, AddressOnParent=0, AutomaticAllocation="true", Caption="cdrom1", Description="CD-ROM Drive", Parent=3)}
{item(17, 9, AddressOnParent=0, Caption="disk1", Description="Disk Image", HostResource="/disk/vmdisk1", Parent=5)}
{item(10, 10, AutomaticAllocation="true", Caption="Ethernet adapter on 'NAT'", Connection="NAT", ResourceSubType="E1000")}
</VirtualHardwareSection>
<vbox:Machine ovf:required="false" version="1.19-linux" uuid="{{0d12e4b0-23e9-4ff0-9d5b-4c4c7a52e3cf}}" name="box">
<Hardware><CPU count="{cpus}"/><Memory RAMSize="{memory}"/><Firmware type="BIOS"/></Hardware></vbox:Machine>
</VirtualSystem>""", 'xmlns:vbox="http://www.virtualbox.org/ovf/machine"')


def virtualbox2(disk="box-disk001.vmdk"):
    """VirtualBox with OVF 2.0: items of three kinds"""
    return envelope(f"""
<References><File ovf:id="file1" ovf:href="{disk}"/></References>
<DiskSection><Info>List</Info><Disk ovf:capacity="16777216" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="{STREAM}"/></DiskSection>
<NetworkSection><Info>Networks</Info><Network ovf:name="NAT"><Description>x</Description></Network></NetworkSection>
<VirtualSystem ovf:id="box2"><Info>A virtual machine</Info>
<VirtualHardwareSection><Info>Virtual hardware requirements</Info>
{item(3, 1, VirtualQuantity=1)}
{item(4, 2, AllocationUnits="MegaBytes", VirtualQuantity=128)}
{item(5, 3, Address=0, ResourceSubType="PIIX4")}
{item(17, 8, "sasd", "StorageItem", AddressOnParent=0, HostResource="/disk/vmdisk1", Parent=3)}
{item(10, 10, "epasd", "EthernetPortItem", Connection="NAT", ResourceSubType="PCNet32")}
</VirtualHardwareSection></VirtualSystem>""", 'xmlns:sasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData.xsd" '
                    'xmlns:epasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_EthernetPortAllocationSettingData.xsd"', 2)


def vmware(first="appliance-disk1.vmdk", second="appliance-disk2.vmdk", nvram="appliance-file1.nvram"):
    """ovftool of vSphere: two configurations, several disks (the second one stands first), UEFI and a TPM as settings"""
    return envelope(f"""
<References><File ovf:href="{first}" ovf:id="file1" ovf:size="70144"/><File ovf:href="{second}" ovf:id="file2" ovf:size="70144"/>
<File ovf:href="{nvram}" ovf:id="file3" ovf:size="8684"/></References>
<DiskSection><Info>Virtual disk information</Info>
<Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="{STREAM}" ovf:populatedSize="0"/>
<Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk2" ovf:fileRef="file2" ovf:format="{STREAM}" ovf:populatedSize="0"/></DiskSection>
<NetworkSection><Info>The list of logical networks</Info><Network ovf:name="lan"><Description>lan</Description></Network>
<Network ovf:name="VM Network"><Description>The VM Network network</Description></Network></NetworkSection>
<DeploymentOptionSection><Info>sizes</Info><Configuration ovf:id="small"><Label>Small</Label><Description>s</Description></Configuration>
<Configuration ovf:id="large" ovf:default="true"><Label>Large</Label><Description>l</Description></Configuration></DeploymentOptionSection>
<VirtualSystem ovf:id="vm"><Info>A virtual machine</Info><Name>appliance</Name>
<OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest"><Info>The kind of installed guest operating system</Info></OperatingSystemSection>
<VirtualHardwareSection ovf:transport="com.vmware.guestInfo"><Info>Virtual hardware requirements</Info>
<System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
<vssd:VirtualSystemIdentifier>appliance</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>vmx-14</vssd:VirtualSystemType></System>
{item(3, 1, AllocationUnits="hertz * 10^6", ElementName="2 virtual CPU(s)", VirtualQuantity=2)}
{item(4, 2, attributes='ovf:configuration="small"', AllocationUnits="byte * 2^20", ElementName="64MB of memory", VirtualQuantity=64)}
{item(4, 2, attributes='ovf:configuration="large"', AllocationUnits="byte * 2^20", ElementName="256MB of memory", VirtualQuantity=256)}
{item(6, 3, Address=0, ElementName="SCSI Controller 0", ResourceSubType="VirtualSCSI")}
{item(17, 6, AddressOnParent=1, ElementName="Hard Disk 2", HostResource="ovf:/disk/vmdisk2", Parent=3)}
{item(17, 5, AddressOnParent=0, ElementName="Hard Disk 1", HostResource="ovf:/disk/vmdisk1", Parent=3)}
{item(24, 7, attributes='ovf:required="false"', AutomaticAllocation="false", ElementName="Video card")}
{item(1, 8, attributes='ovf:required="false"', AutomaticAllocation="false", ElementName="VMCI device", ResourceSubType="vmware.vmci")}
{item(8, 14, attributes='ovf:required="false"', ElementName="iSCSI")}
{item(15, 9, attributes='ovf:required="false"', AddressOnParent=0, ElementName="CD/DVD drive 1", ResourceSubType="vmware.cdrom.remotepassthrough")}
{item(10, 10, AddressOnParent=7, Connection="lan", ElementName="Ethernet 1", ResourceSubType="VmxNet3")}
{item(10, 11, AddressOnParent=8, Connection="VM Network", ElementName="Ethernet 2", ResourceSubType="VmxNet3")}
<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
<vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>
<vmw:ExtraConfig ovf:required="false" vmw:key="nvram" vmw:value="ovf:/file/file3"/>
</VirtualHardwareSection>
<vmw:BootOrderSection ovf:required="false" vmw:instanceId="5" vmw:type="disk"><Info>Virtual hardware device boot order</Info></vmw:BootOrderSection>
</VirtualSystem>""", 'xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common"')


def ovirt(disk="c0b6eaf6-8a4c-4c4d-bd6a-b9a4a40f4a9e", form="COW", bios=2):
    """oVirt's engine: sections by their type, settings of its own as elements, disks named by ids, two of which the second boots"""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/" xmlns:rasd="{RASD}" xmlns:vssd="{VSSD}"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ovf:version="4.4.0.0">
<References><File ovf:href="{disk}" ovf:id="{disk}" ovf:size="196616" ovf:description="Active VM" ovf:disk_storage_type="IMAGE"/></References>
<NetworkSection><Info>List of networks</Info><Network ovf:name="ovirtmgmt"/></NetworkSection>
<Section xsi:type="ovf:DiskSection_Type"><Info>List of Virtual Disks</Info>
<Disk ovf:diskId="{disk}" ovf:size="1" ovf:actual_size="1" ovf:parentRef="" ovf:fileRef="{disk}" ovf:format="http://www.vmware.com/specifications/vmdk.html#sparse"
 ovf:volume-format="{form}" ovf:volume-type="Sparse" ovf:disk-interface="VirtIO_SCSI" ovf:boot="true" ovf:pass-discard="false"/></Section>
<Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type"><Name>engine-vm</Name><Description/><CreationDate>2023/05/23 19:30:39</CreationDate>
<ClusterCompatibilityVersion>4.7</ClusterCompatibilityVersion><VmType>1</VmType><BiosType>{bios}</BiosType><IsStateless>false</IsStateless>
<Section ovf:id="5cd8d241-c38b-4a8d-b06d-bd18fbff333b" ovf:required="false" xsi:type="ovf:OperatingSystemSection_Type"><Info>Guest OS</Info><Description>other</Description></Section>
<Section xsi:type="ovf:VirtualHardwareSection_Type"><Info>1 CPU, 96 Memory</Info><System><vssd:VirtualSystemType>ENGINE 4.4.0.0</vssd:VirtualSystemType></System>
<Item><rasd:Caption>1 virtual cpu</rasd:Caption><rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>3</rasd:ResourceType>
<rasd:num_of_sockets>1</rasd:num_of_sockets><rasd:cpu_per_socket>3</rasd:cpu_per_socket><rasd:threads_per_cpu>1</rasd:threads_per_cpu></Item>
<Item><rasd:Caption>96 MB of memory</rasd:Caption><rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType>
<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:VirtualQuantity>96</rasd:VirtualQuantity></Item>
<Item><rasd:Caption>disk1</rasd:Caption><rasd:InstanceId>{disk}</rasd:InstanceId><rasd:ResourceType>17</rasd:ResourceType>
<rasd:HostResource>{disk}/{disk}</rasd:HostResource><rasd:Parent>00000000-0000-0000-0000-000000000000</rasd:Parent><Type>disk</Type><Device>disk</Device></Item>
<Item><rasd:Caption>Ethernet adapter on ovirtmgmt</rasd:Caption><rasd:InstanceId>a6b5</rasd:InstanceId><rasd:ResourceType>10</rasd:ResourceType>
<rasd:ResourceSubType>3</rasd:ResourceSubType><rasd:Connection>ovirtmgmt</rasd:Connection><rasd:Name>nic1</rasd:Name><Type>interface</Type></Item>
<Item><rasd:Caption>Graphical Framebuffer</rasd:Caption><rasd:InstanceId>26</rasd:InstanceId><rasd:ResourceType>26</rasd:ResourceType></Item>
<Item><rasd:ResourceType>0</rasd:ResourceType><rasd:InstanceId>b1</rasd:InstanceId><Type>rng</Type><Device>virtio</Device></Item>
</Section></Content></ovf:Envelope>
"""


def manifest(kind, files):
    return "".join(f"{kind}({name})= {hashlib.new(kind.lower(), data).hexdigest()}\n" for name, data in files).encode()


def archive(path, files, form=tarfile.USTAR_FORMAT):
    """files: (name, bytes) or a tarfile.TarInfo; its path"""
    with tarfile.open(path, "w", format=form) as t:
        for f in files:
            if isinstance(f, tarfile.TarInfo):
                t.addfile(f)
                continue
            info = tarfile.TarInfo(f[0])
            info.size = len(f[1])
            t.addfile(info, io.BytesIO(f[1]))
    return path


def disk(raw, path, form="vmdk"):
    """The raw disk in another format: its bytes."""
    more = ["-o", "subformat=streamOptimized"] if form == "vmdk" else []
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", form, *more, raw, path], check=True)
    with open(path, "rb") as f:
        return f.read()
