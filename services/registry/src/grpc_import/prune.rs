//! The descriptors of one method and of what its request and answer consist of, and of nothing else: a few KB, and the
//! same bytes at every import. Comments, custom options, extensions and other methods are left out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ::grpc::MAX_DESCRIPTOR_BYTES;
use prost_reflect::{EnumDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, EnumValueDescriptorProto, FieldDescriptorProto,
    FieldOptions, FileDescriptorProto, FileDescriptorSet, MessageOptions, MethodDescriptorProto,
    OneofDescriptorProto, ServiceDescriptorProto,
};

/// Most messages and enums that a method may need.
pub(super) const MAX_TYPES: usize = 5_000;

/// What is said of a method whose descriptors no tool may have.
pub(super) fn too_large() -> String {
    format!("the descriptors of its request and answer have more than {MAX_DESCRIPTOR_BYTES} bytes")
}

/// The files that a method needs, each after those that it depends on.
pub(super) fn descriptors(method: &MethodDescriptor) -> Result<FileDescriptorSet, String> {
    let needed = Needed::of(method)?;
    let mut files: BTreeMap<String, FileDescriptor> = BTreeMap::new();
    let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |file: FileDescriptor| {
        depends.entry(file.name().to_owned()).or_default();
        files.insert(file.name().to_owned(), file);
    };
    add(method.parent_file());
    needed.messages.values().for_each(|message| add(message.parent_file()));
    needed.enums.values().for_each(|each| add(each.parent_file()));
    let mut link = |from: &FileDescriptor, to: &FileDescriptor| {
        if from != to {
            depends.entry(from.name().to_owned()).or_default().insert(to.name().to_owned());
        }
    };
    for message in [method.input(), method.output()] {
        link(&method.parent_file(), &message.parent_file());
    }
    for message in needed.messages.values() {
        for field in message.fields() {
            match field.kind() {
                Kind::Message(other) => link(&message.parent_file(), &other.parent_file()),
                Kind::Enum(other) => link(&message.parent_file(), &other.parent_file()),
                _ => {}
            }
        }
    }
    let file = ordered(&depends)
        .into_iter()
        .filter_map(|name| Some(needed.file(files.get(name)?, &depends[name], method)))
        .collect();
    Ok(FileDescriptorSet { file })
}

/// Files, each after those that it depends on; those that are free in order of name.
fn ordered(depends: &BTreeMap<String, BTreeSet<String>>) -> Vec<&str> {
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut left: Vec<(&str, bool)> = depends.keys().rev().map(|name| (name.as_str(), false)).collect();
    while let Some((name, is_done)) = left.pop() {
        if is_done {
            order.push(name);
        } else if seen.insert(name) {
            left.push((name, true));
            let inner = depends.get(name).into_iter().flatten().rev();
            left.extend(inner.map(|name| (name.as_str(), false)));
        }
    }
    order
}

/// What a method's request and answer consist of, by full name.
struct Needed {
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
}

impl Needed {
    fn of(method: &MethodDescriptor) -> Result<Self, String> {
        let mut needed = Self { messages: BTreeMap::new(), enums: BTreeMap::new() };
        let mut left = vec![method.input(), method.output()];
        let mut bytes = 0;
        while let Some(message) = left.pop() {
            if needed.messages.insert(message.full_name().to_owned(), message.clone()).is_some() {
                continue;
            }
            for field in message.fields() {
                let proto = field.field_descriptor_proto();
                bytes += proto.name().len() + proto.default_value().len();
                match field.kind() {
                    Kind::Message(inner) => {
                        bytes += inner.full_name().len();
                        left.push(inner);
                    }
                    Kind::Enum(inner) => {
                        bytes += inner.full_name().len();
                        let known = needed.enums.insert(inner.full_name().to_owned(), inner.clone());
                        if known.is_none() {
                            bytes += inner.values().map(|value| value.name().len()).sum::<usize>();
                        }
                    }
                    _ => {}
                }
                if bytes > MAX_DESCRIPTOR_BYTES {
                    return Err(too_large());
                }
            }
            if needed.messages.len() + needed.enums.len() > MAX_TYPES {
                return Err(format!("its request and answer consist of more than {MAX_TYPES} types"));
            }
        }
        Ok(needed)
    }

    fn file(
        &self,
        file: &FileDescriptor,
        dependency: &BTreeSet<String>,
        method: &MethodDescriptor,
    ) -> FileDescriptorProto {
        let proto = file.file_descriptor_proto();
        let prefix = if proto.package().is_empty() { String::new() } else { format!("{}.", proto.package()) };
        let service = (*file == method.parent_file()).then(|| service(method));
        FileDescriptorProto {
            name: proto.name.clone(),
            package: proto.package.clone(),
            dependency: dependency.iter().cloned().collect(),
            message_type: self.messages(&proto.message_type, &prefix),
            enum_type: self.enums(&proto.enum_type, &prefix),
            service: service.into_iter().collect(),
            syntax: proto.syntax.clone(),
            ..FileDescriptorProto::default()
        }
    }

    fn messages(&self, all: &[DescriptorProto], prefix: &str) -> Vec<DescriptorProto> {
        all.iter().filter_map(|proto| self.message(proto, &format!("{prefix}{}", proto.name()))).collect()
    }

    /// A message that is not needed itself stays as the shell of those inside that are.
    fn message(&self, proto: &DescriptorProto, full_name: &str) -> Option<DescriptorProto> {
        let inner = format!("{full_name}.");
        let shell = DescriptorProto {
            name: proto.name.clone(),
            nested_type: self.messages(&proto.nested_type, &inner),
            enum_type: self.enums(&proto.enum_type, &inner),
            ..DescriptorProto::default()
        };
        let Some(message) = self.messages.get(full_name) else {
            let is_empty = shell.nested_type.is_empty() && shell.enum_type.is_empty();
            return (!is_empty).then_some(shell);
        };
        let options = proto.options.as_ref().map(|options| MessageOptions {
            message_set_wire_format: options.message_set_wire_format,
            map_entry: options.map_entry,
            ..MessageOptions::default()
        });
        Some(DescriptorProto {
            field: proto.field.iter().map(|proto| field(proto, message)).collect(),
            oneof_decl: proto.oneof_decl.iter().map(oneof).collect(),
            options: options.filter(|options| *options != MessageOptions::default()),
            ..shell
        })
    }

    fn enums(&self, all: &[EnumDescriptorProto], prefix: &str) -> Vec<EnumDescriptorProto> {
        let is_needed =
            |proto: &&EnumDescriptorProto| self.enums.contains_key(&format!("{prefix}{}", proto.name()));
        all.iter().filter(is_needed).map(enumeration).collect()
    }
}

fn service(method: &MethodDescriptor) -> ServiceDescriptorProto {
    let own = MethodDescriptorProto {
        name: Some(method.name().to_owned()),
        input_type: Some(format!(".{}", method.input().full_name())),
        output_type: Some(format!(".{}", method.output().full_name())),
        ..MethodDescriptorProto::default()
    };
    ServiceDescriptorProto {
        name: Some(method.parent_service().name().to_owned()),
        method: vec![own],
        ..ServiceDescriptorProto::default()
    }
}

fn field(proto: &FieldDescriptorProto, message: &MessageDescriptor) -> FieldDescriptorProto {
    let number = u32::try_from(proto.number()).unwrap_or(0);
    let type_name = message.get_field(number).and_then(|field| match field.kind() {
        Kind::Message(other) => Some(format!(".{}", other.full_name())),
        Kind::Enum(other) => Some(format!(".{}", other.full_name())),
        _ => None,
    });
    let packed = proto.options.as_ref().and_then(|options| options.packed);
    FieldDescriptorProto {
        name: proto.name.clone(),
        number: proto.number,
        label: proto.label,
        r#type: proto.r#type,
        type_name,
        default_value: proto.default_value.clone(),
        oneof_index: proto.oneof_index,
        json_name: proto.json_name.clone(),
        proto3_optional: proto.proto3_optional,
        options: packed.map(|packed| FieldOptions { packed: Some(packed), ..FieldOptions::default() }),
        ..FieldDescriptorProto::default()
    }
}

fn oneof(proto: &OneofDescriptorProto) -> OneofDescriptorProto {
    OneofDescriptorProto { name: proto.name.clone(), options: None }
}

fn enumeration(proto: &EnumDescriptorProto) -> EnumDescriptorProto {
    let alias = proto.options.as_ref().and_then(|options| options.allow_alias);
    let value = |value: &EnumValueDescriptorProto| EnumValueDescriptorProto {
        name: value.name.clone(),
        number: value.number,
        options: None,
    };
    EnumDescriptorProto {
        name: proto.name.clone(),
        value: proto.value.iter().map(value).collect(),
        options: alias.map(|alias| EnumOptions { allow_alias: Some(alias), ..EnumOptions::default() }),
        ..EnumDescriptorProto::default()
    }
}
