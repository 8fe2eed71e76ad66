"""Validates reports against the schema.

validate.py SCHEMA REPORT …: prints what is wrong and exits with 1, or prints `valid` for each. A key that the schema
does not name is wrong here, so that no field stays undescribed; for readers of reports it is not.
"""
import json
import sys

import jsonschema


def strict(schema):
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema and "type" in schema and schema["properties"]:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [strict(item) for item in schema]
    return schema


schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(
    strict(schema), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
failed = False
for path in sys.argv[2:]:
    errors = list(validator.iter_errors(json.load(open(path))))
    for error in errors[:20]:
        print(f"{path}: {error.json_path}: {error.message[:500]}")
    if not errors:
        print("valid")
    failed = failed or bool(errors)
sys.exit(failed)
