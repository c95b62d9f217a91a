import { update, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { FieldInput } from "@/kit/field-input";
import { FieldValue } from "@/kit/field-value";
import { useResource, useSession } from "@/kit/queries";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

/** How much of the mail with a customer others see who see the customer; who has the mailbox says it. */
export function Sharing({ box }: { box: RecordJson }) {
  const { label, t } = useText();
  const session = useSession();
  const field = useResource("mailAccounts").fields.find(({ name }) => name === "sharing");
  if (!field) return null;
  const share = async (sharing: unknown) => {
    try {
      await update(box.name, { sharing }, box.etag);
      tell(t("form.saved"));
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  return (
    <span className="row">
      <label htmlFor="mail-sharing" className="faint">
        {label(field.label)}
      </label>
      {box["owner"] === session.employee ? (
        <span className="mail-sharing">
          <FieldInput
            id="mail-sharing"
            field={{ ...field, required: true }}
            value={box["sharing"]}
            onChange={(value) => void share(value)}
          />
        </span>
      ) : (
        <FieldValue field={field} value={box["sharing"]} />
      )}
    </span>
  );
}
